"""`train.export.foreign.scaling`: what becomes of a pixel, in words and numbers, and what a graph shows of it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from train.export.foreign.scaling import COMMON, IMAGENET_MEAN, IMAGENET_STD, Scaling, scales_itself


def make_graph(operation: str, constant: object, *before: str) -> onnx.GraphProto:
    """A graph that begins with some moves and an operation with a constant."""
    names = ["x", *(f"v{index}" for index in range(len(before))), "y"]
    nodes = [helper.make_node(kind, [names[index]], [names[index + 1]]) for index, kind in enumerate(before)]
    nodes.append(helper.make_node(operation, [names[len(before)], "c"], ["y"]))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 8, 3])
    weights = [numpy_helper.from_array(np.asarray(constant, np.float32), "c")]
    return helper.make_graph(nodes, "g", [value], [], weights)


@pytest.mark.parametrize(
    ("operation", "constant", "shows"),
    [
        ("Mul", 1 / 255, True),
        ("Mul", 1 / 127.5, True),
        ("Div", 255, True),
        ("Sub", [103.9, 116.8, 123.7], True),
        ("Add", [-103.9, -116.8, -123.7], True),
        ("Mul", 2, False),
        ("Sub", [0.485, 0.456, 0.406], False),
        ("Sub", 0.5, False),
        ("MatMul", np.full((3, 2), 1 / 255), False),
    ],
)
def test_a_first_step_of_bytes_shows_that_a_graph_takes_0_to_255(operation: str, constant: object, shows: bool) -> None:
    assert scales_itself(make_graph(operation, constant)) is shows
    assert scales_itself(make_graph(operation, constant, "Transpose", "Identity")) is shows


@pytest.mark.parametrize("value", [{"value_float": 1 / 255}, {"value_floats": [1 / 255] * 3}])
def test_a_first_step_is_known_by_a_constant_of_any_spelling(value: dict[str, object]) -> None:
    graph = make_graph("Mul", 1 / 255)
    del graph.initializer[:]
    graph.node.insert(0, helper.make_node("Constant", [], ["c"], **value))
    assert scales_itself(graph)


def test_pixels_are_scaled_then_moved_then_divided() -> None:
    scaling = Scaling(1 / 255, IMAGENET_MEAN, IMAGENET_STD)
    pixels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    wanted = (pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(scaling.apply(pixels), wanted, atol=1e-6)
    np.testing.assert_allclose(pixels * scaling.factor + scaling.shift, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scaling", "fits"),
    [
        ("float16", Scaling(1 / 255), True),
        ("uint8", Scaling(), True),
        ("int32", Scaling(), True),
        ("int64", Scaling(2, (255,)), True),
        ("int8", Scaling(1, (128,)), True),
        ("int32", Scaling(1 / 255, std=(1 / 255, 1 / 255, 1 / 255)), True),
        ("int8", Scaling(), False),
        ("uint8", Scaling(1 / 255), False),
        ("uint8", Scaling(1, (0, 0, 1)), False),
        ("int32", Scaling(1 / 255), False),
        ("int64", Scaling(1, (103.9, 116.8, 123.7)), False),
    ],
)
def test_integers_hold_a_scaling_that_leaves_whole_numbers(dtype: str, scaling: Scaling, fits: bool) -> None:
    assert scaling.fits(dtype) is fits


def test_a_scaling_is_told_by_its_flags() -> None:
    assert [each.flags for each in COMMON.values()] == [
        "--scale 1",
        "--scale 1/255",
        "--scale 1/127.5 --mean 1",
        "--scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
    ]
