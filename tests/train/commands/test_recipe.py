"""`python -m train.mnist` and `train.cifar`: short trainings by the command line, in other processes.

Files in MNIST's format replace MNIST: the row of a bright bar is the label.
"""

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from serve.model_file.spec import check_seal, from_metadata
from tests.support import interrupt
from tests.train.data.test_datasets import draw_bars, write_mnist
from train.commands.recipe import SHIPPED
from train.data.datasets import Part, split
from train.data.sources import SOURCES
from train.evaluation.calibration import measure_calibration_error
from train.export.onnx_file import check_file, open_session, run_onnx
from train.recipes.shipped import RECIPES

# The program of train/mnist.py, with the checksums of the files that replace the published ones.
PROGRAM = """
import dataclasses, json, sys
from train.commands import recipe as command
from train.data import sources
sources.SOURCES["mnist"] = dataclasses.replace(sources.SOURCES["mnist"], md5s=json.loads(sys.argv.pop(1)))
sys.exit(command.main("mnist", "mnist-mlp"))
"""
PICTURES = ["confusion.png", "curves.png", "mistakes.png", "reliability.png"]
FILES = sorted(["README.md", "classes.csv", "history.csv", "model.keras", "model.onnx", *PICTURES])
COUNTS = TRAIN_COUNT, TEST_COUNT = 5600, 300  # 600 to train on; the recipe holds out 5,000

pytestmark = pytest.mark.slow  # most of these tests share a training


def make_split(count: int, seed: int, meaningless: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images of bars with their rows as labels, or with meaningless labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count)
    return draw_bars(random.permutation(labels) if meaningless else labels), labels


def write_dataset(folder: Path, meaningless: bool = False) -> dict[str, str]:
    """Write files in MNIST's format; returns their checksums."""
    return write_mnist(folder, *(make_split(count, seed, meaningless) for seed, count in enumerate(COUNTS)))


@dataclasses.dataclass(frozen=True)
class Training:
    """A command line that trains on the files of a folder."""

    data: Path
    md5s: dict[str, str]
    out: Path

    def command(self, *flags: str) -> list[str]:
        """The command with these flags."""
        folders = ["--data", str(self.data), "--out", str(self.out)]
        return [sys.executable, "-c", PROGRAM, json.dumps(self.md5s), *folders, *flags]

    def run(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(self.command(*flags), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    data = tmp_path_factory.mktemp("data")
    return Training(data, write_dataset(data), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def first_run(training: Training) -> subprocess.CompletedProcess[str]:
    return training.run("--epochs", "2", "--seed", "3")


def test_a_training_leaves_a_model_file_a_keras_model_and_a_history(
    training: Training, first_run: subprocess.CompletedProcess[str]
) -> None:
    assert first_run.returncode == 0, first_run.stderr
    assert sorted(path.name for path in (training.out / "mnist-mlp").iterdir()) == ["1"]
    folder = training.out / "mnist-mlp" / "1"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["val_accuracy"]) > 0.9


def test_the_file_of_a_training_passes_every_check(
    training: Training, first_run: subprocess.CompletedProcess[str]
) -> None:
    path = training.out / "mnist-mlp" / "1" / "model.onnx"
    data = path.read_bytes()
    check_seal(data)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    spec = from_metadata(open_session(data).get_modelmeta().custom_metadata_map)
    check_file(path, spec)
    assert (spec.name, spec.dataset, spec.test_count) == ("mnist-mlp", "mnist", TEST_COUNT)
    assert spec.test_accuracy > 0.9
    assert spec.prepare == RECIPES["mnist-mlp"].prepare
    expected = {"epochs": 2, "batch_size": 128, "seed": 3, "augmentation": None}
    assert spec.recipe.items() >= expected.items()
    assert spec.recipe["precision"] in ("float32", "bfloat16")


def test_the_file_has_the_calibration_of_its_metadata(
    training: Training, first_run: subprocess.CompletedProcess[str]
) -> None:
    path = training.out / "mnist-mlp" / "1" / "model.onnx"
    spec = from_metadata({entry.key: entry.value for entry in onnx.load(path).metadata_props})
    published = Part.whole(*make_split(TRAIN_COUNT, seed=0, meaningless=False))
    _, held_out = split(published, spec.recipe["validation_count"])
    probabilities = run_onnx(path.read_bytes(), held_out.images)
    wanted = spec.recipe["calibration"]
    assert wanted["smoothing"] == RECIPES["mnist-mlp"].label_smoothing > 0
    assert measure_calibration_error(probabilities, held_out.labels) == pytest.approx(wanted["error_after"], abs=1e-4)
    assert abs(wanted["error_before"] - wanted["error_after"]) > 0.01


def test_the_last_lines_printed_say_how_to_serve_what_was_trained(
    training: Training, first_run: subprocess.CompletedProcess[str]
) -> None:
    serve, client = first_run.stdout.splitlines()[-2:]
    assert serve.strip() == f"python -m serve --models {training.out}"
    assert client.strip() == "python -m serve.client --model mnist-mlp image.png"


def test_progress_accuracy_and_parity_are_printed(first_run: subprocess.CompletedProcess[str]) -> None:
    for text in ("epoch 2 of 2", "validation accuracy", f"over {TEST_COUNT} images", "parity with Keras"):
        assert text in first_run.stdout


def test_tensorflows_import_is_quiet(first_run: subprocess.CompletedProcess[str]) -> None:
    assert "oneDNN custom operations" not in first_run.stderr


@pytest.fixture
def evaluating(training: Training, first_run: subprocess.CompletedProcess[str], tmp_path: Path) -> Training:
    """A folder of runs with the file of the first run as versions 1 and 10, and an empty file as version 9."""
    trained = training.out / "mnist-mlp" / "1" / "model.onnx"
    for version in ("1", "9", "10"):
        (tmp_path / "mnist-mlp" / version).mkdir(parents=True)
        (tmp_path / "mnist-mlp" / version / "model.onnx").write_bytes(trained.read_bytes() if version != "9" else b"")
    return dataclasses.replace(training, out=tmp_path)


def test_0_epochs_evaluate_the_newest_file_and_write_nothing(
    evaluating: Training, first_run: subprocess.CompletedProcess[str]
) -> None:
    before = sorted(evaluating.out.rglob("*"))
    done = evaluating.run("--epochs", "0")
    assert done.returncode == 0, done.stderr  # the recipe was modified, so the target does not count
    said, trained, *figures = done.stdout.splitlines()
    assert said == f"evaluating {evaluating.out / 'mnist-mlp' / '10' / 'model.onnx'}"
    assert re.fullmatch(r"trained with seed 3 in (float32|bfloat16)", trained)
    assert [line.split()[0] for line in figures] == ["calibration", "test", "0"]
    assert set(figures) <= set(first_run.stdout.splitlines())
    assert sorted(evaluating.out.rglob("*")) == before


def test_0_epochs_evaluate_the_shipped_file_if_no_run_left_one(training: Training, tmp_path: Path) -> None:
    """Bars are no digits, so it misses its target."""
    done = dataclasses.replace(training, out=tmp_path).run("--epochs", "0", "--model", "mnist-cnn")
    assert (done.returncode, f"evaluating {SHIPPED / 'mnist-cnn' / '1'}" in done.stdout) == (3, True), done.stderr
    assert "below the target of mnist-cnn: wanted 0.99" in done.stderr
    assert not list(tmp_path.iterdir())


def test_0_epochs_without_a_file_end_with_1_and_name_the_folders(training: Training, tmp_path: Path) -> None:
    done = dataclasses.replace(training, out=tmp_path).run("--epochs", "0", "--model", "mnist-cnn-flat")
    assert done.returncode == 1
    for folder in (tmp_path, SHIPPED):
        assert str(folder / "mnist-cnn-flat" / "<version>" / "model.onnx") in done.stderr


def test_an_interrupted_run_leaves_no_version_and_can_be_resumed(tmp_path: Path, training: Training) -> None:
    mine = dataclasses.replace(training, out=tmp_path)
    folder, flags = tmp_path / "mnist-mlp", ("--epochs", "200")
    returncode, errors = interrupt(mine.command(*flags), "epoch 3 of")
    assert returncode == 1, errors
    assert "interrupted: no model file was written; continue with --resume" in errors
    assert [path.name for path in folder.iterdir()] == ["unfinished.npz"]

    other = mine.run("--epochs", "3", "--resume")
    assert (other.returncode, "of other settings" in other.stderr) == (1, True)
    assert [path.name for path in folder.iterdir()] == ["unfinished.npz"]

    over = mine.run("--epochs", "1")
    assert (over.returncode, "starting over; the checkpoint of an interrupted run is" in over.stdout) == (0, True), (
        over.stderr
    )
    assert sorted(path.name for path in folder.iterdir()) == ["1"]


def test_an_unmodified_recipe_below_its_target_ends_with_3(tmp_path: Path) -> None:
    """The labels are meaningless, so that 0.98 is out of reach."""
    training = Training(tmp_path / "data", write_dataset(tmp_path / "data", meaningless=True), tmp_path / "runs")
    done = training.run()
    assert done.returncode == 3, done.stderr
    assert "below the target of mnist-mlp: wanted 0.98" in done.stderr
    assert (tmp_path / "runs" / "mnist-mlp" / "1" / "model.onnx").exists()


def test_real_mnist_is_learnt_in_one_epoch(tmp_path: Path) -> None:
    """The command as users type it, with the published dataset."""
    folder = Path(os.environ.get("INKLING_DATA", Path.home() / ".cache" / "inkling"))
    if not all((folder / "mnist" / file).exists() for file in SOURCES["mnist"].md5s):
        pytest.skip(f"mnist is not in {folder}; set INKLING_DATA to the folder that has it")
    command = [sys.executable, "-m", "train.mnist", "--model", "mnist-cnn", "--epochs", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "mnist-cnn" / "1" / "model.onnx").read_bytes()
    spec = from_metadata(open_session(data).get_modelmeta().custom_metadata_map)
    assert spec.test_accuracy > 0.96
    assert spec.test_count == 10000
