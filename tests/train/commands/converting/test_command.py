"""`python -m train.convert`: a model and pictures become a file with figures, or a sentence says what is missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from serve.client.client import Client
from serve.images.policies.find import find_policy
from serve.model_file.spec import InputSpec
from tests.support import ROOT, RunningServer
from train.commands.converting.command import (
    POLICIES,
    choose_preparation,
    main,
    parse_flags,
)
from train.commands.variants import main as write_variant_of
from train.export.onnx_file import read_model_file, run_onnx

COLOURS = ("red", "green", "blue")


def write_net(path: Path, gain: float = 40.0) -> Path:
    """A net of elsewhere: channels first, 0 to 1 less a mean, logits by the mean of each colour."""
    weights = (np.eye(3) * gain).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, 10, 10])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def write_colours(folder: Path, count: int, noise: int = 60) -> Path:
    """Class folders of noisy single colours; with much noise some are not what they seem."""
    random = np.random.default_rng(0)
    for index, name in enumerate(COLOURS):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(110, 140, (1, 1, 3)) + random.integers(-noise, noise, (10, 10, 3))
            pixels[..., index] += int(random.integers(-10, 30))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(folder / name / f"{number}.png", compress_level=1)
    return folder


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_net(tmp_path / "colours.onnx")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(COLOURS))
    return path


Convert = Callable[..., tuple[int, str, str]]


@pytest.fixture
def convert(net: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    """A function that runs the command: its exit code, stdout and stderr."""

    def run(*flags: object, model: Path = net) -> tuple[int, str, str]:
        words = [str(model), "--name", "colours", "--labels", str(labels), "--out", str(tmp_path / "runs")]
        code = main([*words, *map(str, flags)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_class_folders_give_accuracy_a_card_and_pictures(
    convert: Convert, tmp_path: Path, start_server: Callable[..., RunningServer]
) -> None:
    pictures = write_colours(tmp_path / "pictures", 30)
    code, printed, errors = convert("--images", pictures, "--scale", "1/255", "--mean", "0.5")
    assert code == 0, errors
    assert "parity with the model over 45 pictures" in printed
    assert "not calibrated: wanted 1,000 labelled pictures beside those of the figures, got 45" in printed
    folder = tmp_path / "runs" / "colours" / "1"
    names = ["README.md", "classes.csv", "confusion.png", "mistakes.png", "model.onnx", "reliability.png"]
    assert sorted(each.name for each in folder.iterdir()) == names
    _, spec = read_model_file(folder / "model.onnx")
    assert (spec.test_count, spec.labels) == (45, {"en": COLOURS})
    assert f"test accuracy {spec.test_accuracy:.4f} over 45 images" in printed
    card = (folder / "README.md").read_text()
    assert f"Test accuracy {spec.test_accuracy:.4f} over 45 images" in card
    assert all(f"- {step}\n" in card for step in spec.recipe["conversion"])
    with Client(start_server(tmp_path / "runs").address) as client:
        answer = client.classify((ROOT / "samples/objects/cat-chelsea.jpg").read_bytes(), model="colours")
        assert answer.best.label in COLOURS
        assert client.list_models().models[0].test_count == 45


def test_a_class_without_pictures_has_no_accuracy(convert: Convert, tmp_path: Path) -> None:
    pictures = write_colours(tmp_path / "pictures", 4)
    for picture in (pictures / "green").iterdir():
        picture.unlink()
    code, printed, errors = convert("--images", pictures, "--scale", "1/255", "--mean", "0.5")
    assert code == 0, errors
    assert "green no images, blue " in printed
    assert "nan" not in printed


def test_without_labelled_pictures_the_file_is_unverified(convert: Convert, tmp_path: Path) -> None:
    code, printed, _ = convert("--scale", "1/255")
    assert code == 0
    assert "unverified: no labelled pictures were given" in printed
    _, spec = read_model_file(tmp_path / "runs" / "colours" / "1" / "model.onnx")
    assert (spec.test_count, spec.dataset) == (0, "not stated")
    assert "This file is unverified" in (tmp_path / "runs" / "colours" / "1" / "README.md").read_text()


@pytest.mark.slow
def test_enough_labelled_pictures_give_a_temperature(convert: Convert, tmp_path: Path) -> None:
    """A net that is far too sure is calibrated: its classes stay, its probabilities fall."""
    pictures = write_colours(tmp_path / "pictures", 700)
    code, printed, errors = convert("--images", pictures, "--scale", "1/100")
    assert code == 0, errors
    data, spec = read_model_file(tmp_path / "runs" / "colours" / "1" / "model.onnx")
    calibration = spec.recipe["calibration"]
    assert calibration["temperature"] > 2
    assert calibration["error_after"] < calibration["error_before"] / 2
    assert f"with a temperature of {calibration['temperature']:.3f}, over 1050 pictures" in printed
    image = np.random.default_rng(1).integers(0, 256, (1, 10, 10, 3), np.uint8)
    logits = image.astype(np.float64).mean(axis=(1, 2)) / 100 * 40 / calibration["temperature"]
    wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(run_onnx(data, image), wanted, atol=1e-4)


def test_a_range_that_nobody_said_is_asked_for_with_what_fits_the_pictures(convert: Convert, tmp_path: Path) -> None:
    code, _, errors = convert("--images", write_colours(tmp_path / "pictures", 12))
    assert code == 1
    assert "error: wanted --scale, and --mean and --std where there are any, as in training" in errors
    assert "of 18 images right with --scale 1/255 (0 to 1)" in errors
    assert not (tmp_path / "runs" / "colours").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--scale", "1", "--mean", "1,2"], "--mean: wanted 1 or 3 numbers, got 2"),
        (["--scale", "1", "--output", "heads"], "--output heads: wanted one of logits float32 [1, 3]"),
        (["--scale", "1", "--answers", "sigmoid"], "--answers sigmoid: wanted another kind for 3 outputs"),
        (["--scale", "1", "--answers", "probabilities"], "the outputs are no probabilities: wanted rows from 0 to 1"),
        (["--scale", "1", "--answers", "sigmoids"], "the outputs are no sigmoids: wanted a share from 0 to 1"),
        (["--scale", "1", "--size", "12"], "--size 12x12: wanted the size of the input"),
        (["--scale", "1", "--resize", "8"], "resize=8"),
        (["--scale", "1", "--images", "gone"], "wanted a folder of class folders or of pictures, found gone"),
    ],
)
def test_what_does_not_fit_ends_with_1_and_the_reason(flags: list[str], sentence: str, convert: Convert) -> None:
    code, _, errors = convert(*flags)
    assert code == 1
    assert sentence in errors


def test_a_number_of_labels_that_is_not_the_outputs_is_refused(convert: Convert, labels: Path) -> None:
    labels.write_text("red\ngreen")
    assert "wanted 3 labels for the output logits float32 [1, 3], got 2" in convert("--scale", "1")[2]


def test_bad_usage_ends_with_2(net: Path, labels: Path) -> None:
    base = [str(net), "--labels", str(labels)]
    for flags in (["--name", "a b"], ["--name", "a", "--scale", "x"], ["--name", "a", "--size", "0"], []):
        with pytest.raises(SystemExit) as caught:
            main([*base, *flags])
        assert caught.value.code == 2
    assert main([*base, "--name", "a", "--std", "0"]) == 2


def test_an_onnx_file_is_converted_without_tensorflow(net: Path, labels: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
        "from train.commands.converting.command import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, net, "--name", "colours", "--labels", labels, "--scale", "1"]
    done = subprocess.run([*command, "--out", tmp_path / "runs"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="wanted a file system whose names are any bytes")
def test_names_that_are_not_utf_8_are_spelled_in_the_metadata(convert: Convert, net: Path, tmp_path: Path) -> None:
    pictures = write_colours(tmp_path / os.fsdecode(b"caf\xe9"), 4)
    model = net.rename(tmp_path / os.fsdecode(b"net\xe9.onnx"))
    code, _, errors = convert("--images", pictures, "--scale", "1/255", "--mean", "0.5", model=model)
    assert code == 0, errors
    _, spec = read_model_file(tmp_path / "runs" / "colours" / "1" / "model.onnx")
    assert spec.dataset.startswith(r"caf\xe9 sha256:")
    assert spec.recipe["converted_from"] == r"net\xe9.onnx"


def test_a_graph_with_our_names_in_it_is_converted(convert: Convert, net: Path) -> None:
    """Other people call their tensors images and probabilities, too."""
    model = onnx.load(net)
    new = {"pixel_values": "images", "logits": "probabilities"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    for value in (*model.graph.input, *model.graph.output):
        value.name = new[value.name]
    net.write_bytes(model.SerializeToString())
    assert convert("--scale", "1")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_labelled", [True, False])
def test_int8_of_a_converted_model_is_calibrated_on_own_pictures(
    is_labelled: bool, convert: Convert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = write_colours(tmp_path / "pictures", 30)
    assert convert("--images", pictures, "--scale", "1/255")[0] == 0
    folder = tmp_path / "runs" / "colours" / "1"
    place = pictures if is_labelled else pictures / "red"
    assert write_variant_of([str(folder), "--precision", "int8", "--images", str(place)]) == 0
    printed = capsys.readouterr().out
    _, plain = read_model_file(folder / "model.onnx")
    _, small = read_model_file(folder / "model.int8.onnx")
    assert (small.precision, small.recipe["variant_parity"]["image_count"]) == ("int8", 45 if is_labelled else 30)
    assert small.test_count == (45 if is_labelled else 0)
    assert abs(small.test_accuracy - plain.test_accuracy) < 0.05 or not is_labelled
    assert f"test accuracy {small.accuracy}, of the float32 file {plain.accuracy}" in printed


def test_a_variant_of_a_model_of_ones_own_wants_pictures(
    convert: Convert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("--scale", "1/255")[0] == 0
    assert write_variant_of([str(tmp_path / "runs" / "colours" / "1"), "--precision", "int8"]) == 2
    assert "--images: wanted a folder of pictures to calibrate and measure on" in capsys.readouterr().err


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_that_can_be_chosen_prepares_pictures_for_the_input(policy: str) -> None:
    flags = parse_flags(["net.onnx", "--name", "net", "--labels", "labels.txt", "--prepare", policy])
    shape, colour = ((28, 28, 1), "grey") if policy.startswith("digit") else ((32, 32, 3), "rgb")
    target = InputSpec(shape, "uint8", colour)
    prepare = find_policy(choose_preparation(flags, target), target)
    assert prepare(Image.linear_gradient("L")).shape == shape
