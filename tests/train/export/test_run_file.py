"""`train.export.reevaluate`: which file is the newest, and what is no file of a dataset."""

from pathlib import Path

import numpy as np
import pytest

from serve.errors import CorruptModelFile, InklingError, ModelFileError
from serve.model_file.folder import find_newest
from tests.support import LABELS, write_tiny_model
from train.data.datasets import Dataset
from train.export.onnx_file import run_file


@pytest.fixture
def dataset() -> Dataset:
    """Three images, each with one bright band, which is the label."""
    images = np.zeros((3, 12, 12, 3), np.uint8)
    for band in range(3):
        images[band, 4 * band : 4 * band + 4] = 255
    return Dataset.of_test("none", images, np.arange(3), LABELS)


def test_the_first_folder_that_has_the_model_is_taken_and_in_it_the_highest_version(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_tiny_model(second / "bands", 20)
    assert find_newest("bands", (first, second)) == second / "bands" / "20" / "model.onnx"
    for version in (2, 10):
        write_tiny_model(first / "bands", version)
    (first / "bands" / "11").mkdir()
    write_tiny_model(first / "bands" / ".7.partial", 1)
    assert find_newest("bands", (first, second)) == first / "bands" / "10" / "model.onnx"


def test_where_there_is_no_file_the_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(InklingError, match=r"first/bands/<version>/model\.onnx or .*second/bands"):
        find_newest("bands", (tmp_path / "first", tmp_path / "second"))


def test_a_file_gives_its_facts_and_its_probabilities(tmp_path: Path, dataset: Dataset) -> None:
    spec, probabilities = run_file(write_tiny_model(tmp_path), dataset)
    assert (spec.name, probabilities.dtype, probabilities.shape) == ("bands", np.float32, (3, 3))
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_file_of_another_dataset_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(ModelFileError, match="wanted a model of none, found one of cifar10"):
        run_file(write_tiny_model(tmp_path, dataset="cifar10"), dataset)


def test_a_damaged_file_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    path = write_tiny_model(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptModelFile):
        run_file(path, dataset)
