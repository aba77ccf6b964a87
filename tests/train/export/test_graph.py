"""`train.export.graph`: weights take half the bytes, and the answers are those of the rounded weights."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from tests.support import make_graph
from train.export.graph import ENDING, LEAST_SIZE, halve, restore
from train.export.onnx_file import run_onnx

SHAPE = (40, 40, 3)  # its weights [4800, 3] are large enough


@pytest.fixture
def graph() -> onnx.ModelProto:
    """The tiny model for larger images, with weights that float16 cannot represent exactly."""
    model = make_graph(SHAPE)
    weights = np.random.default_rng(0).normal(0, 0.01, (4800, 3)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    return model


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (20, *SHAPE), np.uint8)


def read_weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_large_weights_take_half_the_bytes(graph: onnx.ModelProto) -> None:
    halved = halve(graph)
    onnx.checker.check_model(halved, full_check=True)
    assert {name: array.dtype for name, array in read_weights(halved).items()} == {"weights" + ENDING: np.float16}
    assert len(halved.SerializeToString()) < len(graph.SerializeToString()) * 0.51


def test_answers_are_those_of_the_rounded_weights(graph: onnx.ModelProto, images: np.ndarray) -> None:
    rounded = onnx.ModelProto()
    rounded.CopyFrom(graph)
    weights = read_weights(graph)["weights"].astype(np.float16).astype(np.float32)
    rounded.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    expected, exact = (run_onnx(model.SerializeToString(), images) for model in (rounded, graph))
    found = run_onnx(halve(graph).SerializeToString(), images)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, exact)


def test_the_casts_are_gone_once_the_file_is_loaded(graph: onnx.ModelProto, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(halve(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    assert [node.input[0] for node in nodes if node.op_type == "Cast"] == ["images"]


def test_the_graph_itself_is_left_as_it_was(graph: onnx.ModelProto) -> None:
    before = graph.SerializeToString()
    halve(graph)
    assert graph.SerializeToString() == before


def test_small_tensors_and_whole_numbers_stay_as_they_are(graph: onnx.ModelProto) -> None:
    graph.graph.initializer.extend(
        [
            numpy_helper.from_array(np.zeros(LEAST_SIZE - 1, np.float32), "small"),
            numpy_helper.from_array(np.zeros(LEAST_SIZE, np.int64), "places"),
        ]
    )
    kept = {tensor.name: tensor.data_type for tensor in halve(graph).graph.initializer}
    assert (kept["small"], kept["places"]) == (TensorProto.FLOAT, TensorProto.INT64)


def test_restoring_gives_the_rounded_weights_and_no_cast(graph: onnx.ModelProto, images: np.ndarray) -> None:
    halved = halve(graph)
    restored = restore(halved)
    assert [node.op_type for node in restored.graph.node] == [node.op_type for node in graph.graph.node]
    assert read_weights(restored)["weights"].dtype == np.float32
    answers = [run_onnx(model.SerializeToString(), images) for model in (halved, restored)]
    np.testing.assert_array_equal(*answers)


def test_restoring_what_was_never_halved_changes_nothing(graph: onnx.ModelProto) -> None:
    assert restore(graph).SerializeToString() == graph.SerializeToString()


def test_a_weight_beyond_float16_is_an_error_that_names_it(graph: onnx.ModelProto) -> None:
    weights = np.full((4800, 3), 7e4, np.float32)
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    with pytest.raises(ValueError, match=r"weights has a weight of 7e\+04: wanted at most 65504"):
        halve(graph)
