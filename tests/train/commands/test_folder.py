"""`python -m train.folder`: class folders are trained on and served, or refused."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.client.client import Client
from serve.client.commands.examples import find_examples, judge
from serve.client.evaluate import summarize
from serve.model_file.spec import from_metadata
from tests.support import RunningServer
from tests.train.data.test_files import make_sparse
from tests.train.data.test_pictures import SHAPES, write_shapes
from train.commands.folder import choose_input
from train.export.onnx_file import check_file, open_session
from train.recipes.net import spell
from train.recipes.shipped import RECIPES

NAME = "my.shapes"
PICTURES = ["confusion.png", "curves.png", "mistakes.png", "reliability.png"]
FILES = sorted(["README.md", "classes.csv", "history.csv", "model.keras", "model.onnx", *PICTURES])
COMMAND = [sys.executable, "-m", "train.folder"]
# The command in a process that cannot import TensorFlow.
PROGRAM = (
    "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
    "from train.commands.folder import main; sys.exit(main())"
)
WITHOUT_TENSORFLOW = [sys.executable, "-c", PROGRAM]


def run(*arguments: object, command: list[str] = COMMAND) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, out: Path) -> subprocess.CompletedProcess[str]:
    """Train on three shapes of 40 pictures, with a file that is no picture."""
    folder = write_shapes(tmp_path_factory.mktemp("pictures") / "shapes")
    (folder / "disc" / "notes.txt").write_text("mine")
    (folder / "disc" / "broken.png").write_text("mine")
    return run(folder, "--name", NAME, "--epochs", 24, "--size", 24, "--out", out, "--skip-broken")


@pytest.mark.slow
def test_class_folders_become_a_model_that_classifies_new_pictures(
    training: subprocess.CompletedProcess[str], out: Path, start_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """A real server classifies pictures of another seed; chance would be a third."""
    assert training.returncode == 0, training.stderr
    server = start_server(out)
    with Client(server.address) as client:
        examples = find_examples(write_shapes(tmp_path / "new", 20, seed=1)).chosen
        judged = judge(client, examples, NAME, "")
    summary = summarize(judged.verdicts)
    assert summary["accuracy"] > 0.7, summary


@pytest.mark.slow
def test_the_files_are_complete_and_describe_the_training(
    training: subprocess.CompletedProcess[str], out: Path
) -> None:
    folder = out / NAME / "1"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert len(list(csv.DictReader((folder / "history.csv").read_text().splitlines()))) == 24
    data = (folder / "model.onnx").read_bytes()
    spec = from_metadata(open_session(data).get_modelmeta().custom_metadata_map)
    check_file(folder / "model.onnx", spec)
    assert (spec.name, spec.labels, spec.test_count) == (NAME, {"en": SHAPES}, 18)
    assert spec.dataset.startswith("shapes sha256:")
    assert (spec.input, spec.prepare) == choose_input("rgb", 24)
    expected = {"net": spell(RECIPES["cifar10-cnn"].net), "epochs": 24, "validation_count": 18, "seed": 0}
    assert {key: spec.recipe[key] for key in expected} == expected


@pytest.mark.slow
def test_counts_figures_and_commands_are_printed(training: subprocess.CompletedProcess[str], out: Path) -> None:
    for text in ("disc 40, square 40, stripes 40", "84 images to train, 18 to validate, 18 to test", "parity with"):
        assert text in training.stdout
    assert "left out 1 no picture (notes.txt)" in training.stdout
    assert "left out 1 files that cannot be used" in training.stdout
    assert "the probabilities are not calibrated: too few images were held out" in training.stdout
    assert training.stdout.splitlines()[-2:] == [
        f"  python -m serve --models {out}",
        f"  python -m serve.client --model {NAME} image.png",
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder.rename(folder.with_name("moved")), "wanted a folder of class folders, found nothing at"),
        (lambda folder: [(folder / name).rename(folder.with_name(name)) for name in SHAPES[1:]], "at least 2 class"),
        (lambda folder: (folder / "blob").mkdir(), "found a class folder without any"),
        (lambda folder: (folder / "disc" / "0.png").unlink(), "found disc 9"),
        (
            lambda folder: (folder / "disc" / "a.png").write_bytes(b"GIF8"),
            "a.png: wanted a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF",
        ),
        (lambda folder: os.mkfifo(folder / "disc" / "a.png"), "a.png: wanted a file, found a pipe"),
        (lambda folder: make_sparse(folder / "disc" / "a.png"), "a.png: wanted a file of at most 400,000,000 bytes"),
    ],
    ids=["no folder", "one class", "an empty class", "too few images", "a broken file", "a FIFO", "a file of 30 GB"],
)
def test_an_unusable_folder_ends_with_1_and_the_reason_before_tensorflow(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = write_shapes(tmp_path / "shapes", 10)
    spoil(folder)
    done = run(folder, "--name", "mine", "--out", tmp_path / "runs", command=WITHOUT_TENSORFLOW)
    assert (done.returncode, done.stderr[:7]) == (1, "error: ")
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--name", "two words"],
        ["--name", "../up"],
        ["--name", ".hidden"],
        ["--name", ""],
        ["--name", "a", "--size", "7"],
        ["--name", "a", "--size", "129"],
        ["--name", "a", "--size", "32x32"],
        ["--name", "a", "--epochs", "0"],
        ["--name", "a", "--colour", "cmyk"],
        ["--name", "a", "--precision", "int8"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2_and_names_the_flag(flags: list[str]) -> None:
    done = run(".", *flags, command=WITHOUT_TENSORFLOW)
    assert (done.returncode, flags[-2] in done.stderr) == (2, True)


def test_0_epochs_are_refused_with_the_command_that_evaluates() -> None:
    done = run(".", "--name", "a", "--epochs", "0", command=WITHOUT_TENSORFLOW)
    assert (done.returncode, "python -m serve.evaluate" in " ".join(done.stderr.split())) == (2, True)


def test_patience_not_below_the_epochs_of_the_folder_ends_with_2(tmp_path: Path) -> None:
    """20 pictures get the highest number of epochs, 100."""
    folder = write_shapes(tmp_path / "shapes", 10)
    done = run(folder, "--name", "a", "--patience", "100", "--out", tmp_path / "runs", command=WITHOUT_TENSORFLOW)
    assert (done.returncode, "wanted fewer than the run's 100 epochs" in done.stderr) == (2, True), done.stderr


def test_a_model_needs_a_name() -> None:
    done = run(".", command=WITHOUT_TENSORFLOW)
    assert (done.returncode, "--name" in done.stderr) == (2, True)
