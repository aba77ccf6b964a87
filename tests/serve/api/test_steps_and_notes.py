"""serve.api: what a policy saw comes back as notes, and the pictures on the way where they are asked for."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from PIL import Image

from serve.client.__main__ import main
from serve.client.client import Client
from serve.model_file.spec import PrepareSpec
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.serve.images.policies.test_digit_2 import CLEAN
from tests.support import GREY, RunningServer, encode, write_tiny_model

SEVEN = encode(CLEAN)
BLANK = encode(Image.new("L", (90, 90), 200))


@pytest.fixture(scope="module")
def digits(start_server: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server of a model with digit/2, and of one with photo/1."""
    folder = tmp_path_factory.mktemp("digits")
    prepare = PrepareSpec("digit", 2, {"box": 8})
    write_tiny_model(folder / "digits", name="digits", input=GREY, prepare=prepare, parameters=432)
    write_tiny_model(folder / "bands")
    return start_server(folder)


@pytest.fixture(scope="module")
def asking(digits: RunningServer) -> Iterator[Client]:
    with Client(digits.address) as client:
        yield client


@pytest.mark.parametrize(("image", "note"), [(SEVEN, "ONE_PART"), (BLANK, "NO_INK")], ids=["seven", "blank"])
def test_what_the_policy_saw_comes_back_as_a_note(asking: Client, image: bytes, note: str) -> None:
    assert asking.classify(image, model="digits").notes == (note,)


def test_a_policy_that_does_not_look_has_no_notes(asking: Client) -> None:
    assert asking.classify(SEVEN, model="bands").notes == ()


@pytest.mark.parametrize(
    ("model", "names"), [("digits", ["levels", "ink", "strokes", "prepared"]), ("bands", ["levels", "prepared"])]
)
@pytest.mark.parametrize("image", [SEVEN, encode(CLEAN.resize((20, 20)))], ids=["large", "small"])
def test_the_steps_come_back_in_order_where_asked_for(
    asking: Client, model: str, names: list[str], image: bytes
) -> None:
    asked = asking.classify(image, model=model, return_steps=True, return_prepared=True)
    assert [step.name for step in asked.steps] == names
    assert asked.steps[-1].png == asked.prepared_png
    assert all(Image.open(io.BytesIO(step.png)).format == "PNG" for step in asked.steps)
    plain = asking.classify(image, model=model)
    assert plain.steps == ()
    assert plain.classes == asked.classes


def test_each_image_of_a_batch_has_its_own_steps_or_its_error(digits: RunningServer) -> None:
    options = pb.ClassifyOptions(return_steps=True)
    request = pb.BatchClassifyRequest(model="digits", images=[SEVEN, b"none", BLANK], options=options)
    with grpc.insecure_channel(digits.address) as channel:
        seven, broken, blank = ClassifierServiceStub(channel).BatchClassify(request).results
    assert seven.classification.steps[-1].png != blank.classification.steps[-1].png
    assert broken.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_a_large_picture_has_small_steps(asking: Client) -> None:
    large = encode(Image.effect_noise((3_000, 2_000), 80).convert("RGB"), "JPEG")
    steps = asking.classify(large, model="bands", return_steps=True).steps
    assert all(max(Image.open(io.BytesIO(step.png)).size) < 320 for step in steps)


def test_the_client_writes_the_steps_into_a_folder(
    digits: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a seven.png").write_bytes(SEVEN)
    (tmp_path / "blank.png").write_bytes(BLANK)
    command = ["--address", digits.address, "--model", "digits", "--explain", str(tmp_path / "why"), str(tmp_path)]
    assert main(command) == 0
    written = sorted(path.name.rpartition(".png-")[2] for path in (tmp_path / "why").iterdir())
    assert written == sorted(["1-levels.png", "2-ink.png", "3-strokes.png", "4-prepared.png"] * 2)
    row_of_seven, row_of_blank = capsys.readouterr().out.splitlines()
    assert row_of_blank.endswith("(no ink)")
    assert not row_of_seven.endswith(")")


def test_a_folder_that_cannot_be_made_is_said(digits: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(SEVEN)
    with pytest.raises(SystemExit) as ended:
        main(["--address", digits.address, "--explain", str(tmp_path / "file" / "why"), str(tmp_path / "file")])
    assert ended.value.code == 2
