"""`train.export.foreign.from_onnx`: numbers and open sides are read in each way that exporters write them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.train.export.foreign.test_from_onnx import make_classifier, write
from train.export.foreign.from_onnx import from_onnx


def add_bounded_loop(model: onnx.ModelProto, **trips: object) -> None:
    """A loop that leaves the scores as they are, with its number of trips in a node."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, ["N", 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, ["N", 3]),
        ],
    )
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(helper.make_node("Constant", [], ["trips"], **trips))
    model.graph.node.append(helper.make_node("Loop", ["trips", "", "scores"], ["output"], body=body))


@pytest.mark.parametrize("trips", [{"value_int": 2}, {"value_ints": [2]}], ids=lambda trips: next(iter(trips)))
def test_a_loop_is_bounded_by_a_constant_of_any_spelling(trips: dict[str, object], tmp_path: Path) -> None:
    model = make_classifier()
    add_bounded_loop(model, **trips)
    assert from_onnx(write(model, tmp_path)).outputs[0].name == "output"


@pytest.mark.parametrize("side", [0, -1])
def test_sides_below_1_are_open_ones(side: int, tmp_path: Path) -> None:
    """Some exporters write a side that is left open so."""
    model = make_classifier()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = side
    for place in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = side
    source = from_onnx(write(model, tmp_path))
    assert source.images.shape == (None, 3, None, None)
    assert source.run(np.zeros((4, 3, 8, 8), np.float32))["output"].shape == (4, 3)


@pytest.mark.parametrize("count", [5, 6])
def test_an_open_number_of_classes_that_is_not_that_of_the_labels_is_refused(
    count: int, tmp_path: Path, refuse: Callable[..., str]
) -> None:
    model = make_classifier()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((3, count), np.float32), "weights"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = -1
    sentence = f"wanted 3 numbers for each image from output float32 [N, ?], found [32, {count}] for 32 images"
    assert sentence in refuse(write(model, tmp_path), 3, "--scale", "1")
