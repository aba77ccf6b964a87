"""`train.export.onnx_file`: a model file is written whole or not at all, and reads back as it was written."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from serve.errors import ModelFileError, SelfTestFailed, UnknownPolicy
from serve.model_file.spec import ModelSpec, PrepareSpec, SelfTest
from tests.support import LABELS, RGB, make_graph, make_spec, write_tiny_model
from train.data.datasets import Dataset
from train.export.onnx_file import measure_self_test, read_model_file, run_file, write_model_file


@pytest.fixture
def graph() -> onnx.ModelProto:
    return make_graph(RGB.shape)


@pytest.fixture
def spec(graph: onnx.ModelProto) -> ModelSpec:
    return make_spec(self_test=measure_self_test(graph, RGB.shape))


def test_a_file_is_read_back_as_it_was_written(graph: onnx.ModelProto, spec: ModelSpec, tmp_path: Path) -> None:
    path = write_model_file(graph, spec, tmp_path / "1")
    assert read_model_file(path) == (path.read_bytes(), spec)


@pytest.mark.parametrize("damage", ["a flipped bit", "an end that is missing"])
def test_a_damaged_file_is_not_read(damage: str, graph: onnx.ModelProto, spec: ModelSpec, tmp_path: Path) -> None:
    path = write_model_file(graph, spec, tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "a flipped bit" else data[:-100])
    with pytest.raises(ModelFileError, match=f"^{re.escape(str(path))}: the file"):
        read_model_file(path)


def test_a_file_that_fails_its_self_test_does_not_replace_the_old_one(
    graph: onnx.ModelProto, spec: ModelSpec, tmp_path: Path
) -> None:
    path = write_model_file(graph, spec, tmp_path)
    before = path.read_bytes()
    wrong = make_spec(self_test=SelfTest(1, ((1.0, 0.0, 0.0),), 1e-3))
    with pytest.raises(SelfTestFailed, match=r"within 0\.001"):
        write_model_file(graph, wrong, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == before


def test_a_file_whose_preparation_no_server_knows_is_not_written(
    graph: onnx.ModelProto, spec: ModelSpec, tmp_path: Path
) -> None:
    with pytest.raises(UnknownPolicy, match=r"got photo/2 \(rgb\)"):
        write_model_file(graph, replace(spec, prepare=PrepareSpec("photo", 2, {})), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_invalid_graph_is_not_written(graph: onnx.ModelProto, spec: ModelSpec, tmp_path: Path) -> None:
    graph.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(onnx.checker.ValidationError):
        write_model_file(graph, spec, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_graph_that_is_handed_in_keeps_its_own_metadata(
    graph: onnx.ModelProto, spec: ModelSpec, tmp_path: Path
) -> None:
    write_model_file(graph, spec, tmp_path)
    assert len(graph.metadata_props) == 0


@pytest.fixture
def dataset() -> Dataset:
    """Three images, each with a bright band at the place of its label."""
    images = np.zeros((3, 12, 12, 3), np.uint8)
    for band in range(3):
        images[band, 4 * band : 4 * band + 4] = 255
    return Dataset.of_test("none", images, np.arange(3), LABELS)


def test_a_file_gives_its_facts_and_its_probabilities(tmp_path: Path, dataset: Dataset) -> None:
    spec, probabilities = run_file(write_tiny_model(tmp_path), dataset)
    assert (spec.name, probabilities.dtype, probabilities.shape) == ("bands", np.float32, (3, 3))
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_file_of_another_dataset_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(ModelFileError, match="wanted a model of none, found one of cifar10"):
        run_file(write_tiny_model(tmp_path, dataset="cifar10"), dataset)
