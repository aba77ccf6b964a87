"""`--tensorboard`: the event files of short trainings are read back."""

import csv
import subprocess
from pathlib import Path

import pytest
from tensorflow import make_ndarray
from tensorflow.core.util import event_pb2

from serve.model_file.spec import from_metadata
from tests.train.commands.test_recipe import Training, write_dataset
from tests.train.commands.test_usage import WITHOUT_TENSORFLOW
from train.export.onnx_file import open_session


@pytest.mark.slow
def test_a_run_that_stops_early_is_published_with_its_tensorboard_files(
    tmp_path: Path,
) -> None:
    """The labels are meaningless, so that no epoch stays the best for long."""
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
    """Read event files: (run, tag, step) -> value. A record is a length, a checksum, the event, a checksum."""
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


def test_tensorboard_without_tensorflow_is_refused_before_training(tmp_path: Path) -> None:
    training = Training(tmp_path / "data", write_dataset(tmp_path / "data"), tmp_path / "runs")
    command = training.command("--tensorboard")
    command[2] = f"{WITHOUT_TENSORFLOW}\n{command[2]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --tensorboard: wanted TensorFlow, which writes these files; it is not installed\n"
    assert not training.out.exists()
