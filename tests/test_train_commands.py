"""`python -m train.mnist` and `train.cifar`: real, short trainings through the command line, in processes of their own.

Where the published MNIST is not at hand, files in its format stand in for it: a bright bar, whose row is the label.
"""

import argparse
import csv
import dataclasses
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tensorflow import make_ndarray
from tensorflow.core.util import event_pb2

from serve.errors import ConfigError
from serve.model_file import check_seal, from_metadata
from train.command import adapt, exit_code
from train.export import check_file, open_session
from train.notebooks import ALL, NOTEBOOKS
from train.precision import choose_precision, has_bfloat16, read_cpu_flags
from train.publish import publish
from train.recipes import RECIPES
from train.reevaluate import SHIPPED
from train.sources import SOURCES

# The program of train/mnist.py, with the checksums of the files that stand in for the published ones.
PROGRAM = """
import dataclasses, json, sys
from train import command, sources
sources.SOURCES["mnist"] = dataclasses.replace(sources.SOURCES["mnist"], md5s=json.loads(sys.argv.pop(1)))
sys.exit(command.main("mnist", "mnist-mlp"))
"""
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None"
PICTURES = ["confusion.png", "curves.png", "mistakes.png", "reliability.png"]
FILES = sorted(["README.md", "classes.csv", "history.csv", "model.keras", "model.onnx", *PICTURES])
TRAIN_COUNT, TEST_COUNT = 5600, 300  # 600 train, 5,000 validate as the recipe says


def make_split(count: int, seed: int, meaningless: bool = False) -> dict[str, bytes]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count).astype(np.uint8)
    images = np.zeros((count, 28, 28), np.uint8)
    bars = random.permutation(labels) if meaningless else labels
    for image, bar in zip(images, bars, strict=True):
        image[4 + 2 * bar : 6 + 2 * bar] = 255
    header = b"\0\0\x08"
    return {
        "images-idx3": header + b"\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape) + images.tobytes(),
        "labels-idx1": header + b"\x01" + count.to_bytes(4, "big") + labels.tobytes(),
    }


def write_dataset(folder: Path, meaningless: bool = False) -> dict[str, str]:
    """Files laid out as MNIST's; returns their checksums."""
    (folder / "mnist").mkdir(parents=True)
    parts = {"train": make_split(TRAIN_COUNT, 0, meaningless), "t10k": make_split(TEST_COUNT, 1, meaningless)}
    files = {
        f"{split}-{kind}-ubyte.gz": gzip.compress(content, 1)
        for split, kinds in parts.items()
        for kind, content in kinds.items()
    }
    for name, content in files.items():
        (folder / "mnist" / name).write_bytes(content)
    return {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}


@dataclasses.dataclass(frozen=True)
class Training:
    """A command line that trains on a folder's files."""

    data: Path
    md5s: dict[str, str]
    out: Path

    def command(self, *flags: str) -> list[str]:
        """What to run."""
        folders = ["--data", str(self.data), "--out", str(self.out)]
        return [sys.executable, "-c", PROGRAM, json.dumps(self.md5s), *folders, *flags]

    def run(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
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


def test_the_file_of_a_training_passes_every_check_and_says_how_it_came_about(
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


def test_the_last_lines_printed_say_how_to_serve_what_was_trained(
    training: Training, first_run: subprocess.CompletedProcess[str]
) -> None:
    serve, client = first_run.stdout.splitlines()[-2:]
    assert serve.strip() == f"python -m serve --models {training.out}"
    assert client.strip() == "python -m serve.client --model mnist-mlp image.png"


def test_progress_accuracy_and_parity_are_shown(first_run: subprocess.CompletedProcess[str]) -> None:
    for text in ("epoch 2 of 2", "validation accuracy", f"over {TEST_COUNT} images", "parity with Keras"):
        assert text in first_run.stdout


def test_tensorflows_import_is_quiet(first_run: subprocess.CompletedProcess[str]) -> None:
    assert "oneDNN custom operations" not in first_run.stderr


@pytest.fixture
def evaluating(training: Training, first_run: subprocess.CompletedProcess[str], tmp_path: Path) -> Training:
    """A folder of runs with the first run's file as versions 1 and 10, and as version 9 a file that is none."""
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
    assert done.returncode == 0, done.stderr  # 2 epochs are no unmodified recipe, whatever they reached
    said, *figures = done.stdout.splitlines()
    assert said == f"evaluating {evaluating.out / 'mnist-mlp' / '10' / 'model.onnx'}"
    assert [line.split()[0] for line in figures] == ["calibration", "test", "0"]
    assert set(figures) <= set(first_run.stdout.splitlines())
    assert sorted(evaluating.out.rglob("*")) == before


def test_0_epochs_evaluate_the_shipped_file_where_no_run_left_one_and_end_with_3_below_its_target(
    training: Training, tmp_path: Path
) -> None:
    """Bars are no digits."""
    done = dataclasses.replace(training, out=tmp_path).run("--epochs", "0", "--model", "mnist-cnn")
    assert (done.returncode, f"evaluating {SHIPPED / 'mnist-cnn' / '1'}" in done.stdout) == (3, True), done.stderr
    assert "below the target of mnist-cnn: wanted 0.99" in done.stderr
    assert not list(tmp_path.iterdir())


def test_0_epochs_without_a_file_end_with_1_and_the_places_looked_at(training: Training, tmp_path: Path) -> None:
    done = dataclasses.replace(training, out=tmp_path).run("--epochs", "0", "--model", "mnist-cnn-flat")
    assert done.returncode == 1
    for folder in (tmp_path, SHIPPED):
        assert str(folder / "mnist-cnn-flat" / "<version>" / "model.onnx") in done.stderr


def test_a_run_out_of_patience_publishes_what_it_has_and_says_so_and_tensorboard_shows_its_epochs(
    tmp_path: Path,
) -> None:
    """Labels that mean nothing: no epoch is long the best."""
    training = Training(tmp_path / "data", write_dataset(tmp_path / "data", meaningless=True), tmp_path / "runs")
    done = training.run("--epochs", "100", "--patience", "1", "--tensorboard")
    folder = training.out / "mnist-mlp" / "1"
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert 1 < len(rows) < 100
    assert f"stopped early, after epoch {len(rows)} of 100: 1 in a row" in done.stdout
    spec = from_metadata(open_session((folder / "model.onnx").read_bytes()).get_modelmeta().custom_metadata_map)
    assert (spec.recipe["patience"], spec.recipe["stopped_early"], spec.recipe["epochs"]) == (1, True, 100)
    shown = read_scalars(folder / "tensorboard")
    names = {"training": ["loss", "accuracy", "seconds"], "validation": ["loss", "accuracy"]}
    assert list(shown) == [
        (run, name, int(row["epoch"])) for run in names for row in rows for name in names[run]
    ]  # fmt: skip
    for (run, name, epoch), value in shown.items():
        column = f"val_{name}" if run == "validation" else name
        assert value == pytest.approx(float(rows[epoch - 1][column]), rel=1e-6)


def read_scalars(folder: Path) -> dict[tuple[str, str, int], float]:
    """(run, tag, step) -> value, of TensorBoard's event files; a record is its length, a checksum, itself, another."""
    found = {}
    for path in sorted(folder.glob("*/events.out.tfevents.*")):
        data, start = path.read_bytes(), 0
        while start < len(data):
            length = int.from_bytes(data[start : start + 8], "little")
            event = event_pb2.Event.FromString(data[start + 12 : start + 12 + length])
            start += 16 + length
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[path.parent.name, value.tag, event.step] = float(make_ndarray(value.tensor))
    return found


def test_tensorboards_files_without_tensorflow_are_refused_before_any_training(
    training: Training, tmp_path: Path
) -> None:
    command = training.command("--tensorboard", "--out", str(tmp_path))
    command[2] = f"{WITHOUT_TENSORFLOW}\n{command[2]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --tensorboard: wanted TensorFlow, which writes those files; it is not installed\n"
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_no_version_and_goes_on_when_told(tmp_path: Path, training: Training) -> None:
    mine = dataclasses.replace(training, out=tmp_path)
    folder, flags = tmp_path / "mnist-mlp", ("--epochs", "200")
    process = subprocess.Popen(mine.command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("epoch 3 of"):
            process.send_signal(signal.SIGTERM)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "interrupted: no model file was written; go on with --resume" in errors
    assert [path.name for path in folder.iterdir()] == ["unfinished.npz"]

    other = mine.run("--epochs", "3", "--resume")
    assert (other.returncode, "of other settings" in other.stderr) == (1, True)
    assert [path.name for path in folder.iterdir()] == ["unfinished.npz"]

    over = mine.run("--epochs", "1")
    assert (over.returncode, "starting over; an interrupted run is in" in over.stdout) == (0, True), over.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["1"]


def test_an_unmodified_recipe_below_its_target_ends_with_3_and_leaves_its_file(tmp_path: Path) -> None:
    """Labels that mean nothing: nobody reaches 0.98."""
    training = Training(tmp_path / "data", write_dataset(tmp_path / "data", meaningless=True), tmp_path / "runs")
    done = training.run()
    assert done.returncode == 3, done.stderr
    assert "below the target of mnist-mlp: wanted 0.98" in done.stderr
    assert (tmp_path / "runs" / "mnist-mlp" / "1" / "model.onnx").exists()


def test_unusable_data_ends_with_1_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"broken")
    command = [sys.executable, "-m", "train.cifar", "--data", str(tmp_path), "--out", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cifar-10-python.tar.gz is not the published file: wanted md5 c58f")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--model", "vgg"],
        ["--epochs", "-1"],
        ["--epochs", "x"],
        ["--precision", "int8"],
        ["--patience", "0"],
        ["--patience", "10"],
        ["--patience", "3", "--epochs", "3"],
        ["--epochs", "0", "--resume"],
        ["--epochs", "0", "--patience", "2"],
        ["--epochs", "0", "--tensorboard"],
        ["--epochs", "0", "--no-augment"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2_before_tensorflow(flags: list[str], tmp_path: Path) -> None:
    program = f"{WITHOUT_TENSORFLOW}; from train.command import main; sys.exit(main('mnist', 'mnist-cnn'))"
    command = [sys.executable, "-c", program, "--data", str(tmp_path / "none"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, flags[0] in done.stderr) == (2, True), done.stderr


def test_a_recipe_that_keeps_its_last_epoch_takes_no_patience() -> None:
    flags = argparse.Namespace(epochs=None, patience=2, no_augment=False)
    with pytest.raises(ConfigError, match="cifar10 keeps the last epoch, not the best"):
        adapt(dataclasses.replace(RECIPES["cifar10"], keeps_last=True), flags)


@pytest.mark.parametrize("module", ["mnist", "cifar"])
def test_help_lists_the_datasets_models_with_their_measured_accuracy_and_then_the_notebooks_with_theirs(
    module: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"train.{module}", "--help"], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.endswith(" epochs")]
    accuracies = {name: recipe.measured_accuracy for name, recipe in RECIPES.items()}
    accuracies |= {name: recipe.target_accuracy for name, recipe in NOTEBOOKS.items()}
    assert rows == [
        [name, f"{f'{accuracy:.4f}' if accuracy else 'not measured'}, {ALL[name].epochs} epochs"]
        for name, accuracy in accuracies.items()
        if name.startswith(module)
    ]


def test_a_notebooks_row_that_misses_its_figure_ends_with_3_and_one_without_a_figure_with_0() -> None:
    assert exit_code(NOTEBOOKS["cifar10-cnn-5"], 0.6059) == 3
    assert exit_code(NOTEBOOKS["cifar10-cnn-5"], 0.606) == 0
    assert exit_code(dataclasses.replace(NOTEBOOKS["cifar10-cnn-5"], patience=2), 0.1) == 0
    assert exit_code(NOTEBOOKS["mnist-cnn-mean"], 0.1) == 0


def test_a_version_is_the_highest_plus_one_and_other_names_do_not_count(tmp_path: Path) -> None:
    for name in ("1", "9", "10", "notes", ".4"):
        (tmp_path / name).mkdir()
    (tmp_path / ".5.partial").mkdir()
    assert publish(tmp_path / ".5.partial") == tmp_path / "11"


def test_bfloat16_is_for_cpus_that_multiply_it() -> None:
    assert has_bfloat16({"avx2", "amx_bf16"})
    assert has_bfloat16({"avx512_bf16"})
    assert not has_bfloat16({"avx2", "avx512f", "avx512_vnni"})


def test_cpu_flags_are_read_as_linux_writes_them(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nvmx flags\t: vnmi\nflags\t\t: fpu amx_bf16 avx2\n\nprocessor\t: 1\nflags\t: x\n"
    )
    assert read_cpu_flags(cpuinfo) == {"fpu", "amx_bf16", "avx2"}
    assert read_cpu_flags(tmp_path / "absent") == set()


def test_a_precision_that_is_named_is_taken() -> None:
    assert [choose_precision(name) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    assert choose_precision("auto") in ("float32", "bfloat16")


def test_real_mnist_is_learnt_in_one_epoch(tmp_path: Path) -> None:
    """The published dataset through the command as a user types it."""
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
