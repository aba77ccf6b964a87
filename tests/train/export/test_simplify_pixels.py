"""`train.export.simplify`: one operation scales bytes, with bitwise the same result."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.train.export.test_simplify import kinds, optimize
from train.export.simplify import simplify


def make_scaling(
    step: np.ndarray, *, kind: int = TensorProto.UINT8, to: int = TensorProto.FLOAT, shift: float = 0.0
) -> onnx.ModelProto:
    """A graph from `x` [N, 4, 4, 1] of dtype `kind` to `y`: x times the step plus a shift, computed in dtype `to`."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=to),
        helper.make_node("Mul", ["f", "step"], ["m"]),
        helper.make_node("Add", ["m", "shift"], ["y"]),
    ]
    shape = ["N", 4, 4, 1]
    x, y = (helper.make_tensor_value_info(*each, shape) for each in (("x", kind), ("y", to)))
    weights = {"step": step, "shift": np.array(shift)}
    tensors = [
        numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(to)), name)
        for name, array in weights.items()
    ]
    graph = helper.make_graph(nodes, "graph", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run_bytes(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.arange(256, dtype=np.uint8).reshape(-1, 4, 4, 1)})[0])


@pytest.mark.parametrize("step", [np.array(1 / 255), np.array([0.5])])
def test_pixels_become_numbers_of_a_step_in_one_operation(step: np.ndarray) -> None:
    model = make_scaling(step)
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert kinds(simple) == ["DequantizeLinear"]
    np.testing.assert_array_equal(run_bytes(simple), run_bytes(model))


@pytest.mark.parametrize("kind", ["Reshape", "Transpose"])
def test_pixels_are_moved_as_bytes_and_then_scaled_once(kind: str, tmp_path: Path) -> None:
    model = make_scaling(np.array(1 / 255))
    model.graph.node[-1].output[0] = "a"
    if kind == "Reshape":
        model.graph.node.append(helper.make_node("Reshape", ["a", "shape"], ["y"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, 4, 4], np.int64), "shape"))
    else:
        model.graph.node.append(helper.make_node("Transpose", ["a"], ["y"], perm=[0, 3, 1, 2]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, 4, 4]))
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert kinds(simple) == [kind, "DequantizeLinear"]
    assert "QuantizeLinear" not in optimize(simple, tmp_path / "optimized.onnx")
    np.testing.assert_array_equal(run_bytes(simple), run_bytes(model))


def test_a_shift_of_pixels_stays() -> None:
    model = make_scaling(np.array(1 / 255), shift=-0.5)
    assert kinds(simplify(model)) == ["DequantizeLinear", "Add"]
    np.testing.assert_array_equal(run_bytes(simplify(model)), run_bytes(model))


@pytest.mark.parametrize(
    "model",
    [
        make_scaling(np.array(1 / 255), kind=TensorProto.INT64),
        make_scaling(np.array(1 / 255), to=TensorProto.DOUBLE),
        make_scaling(np.array(1 / 255), to=TensorProto.FLOAT16),
        make_scaling(np.array([[[[[3.0]]]]])),
        make_scaling(np.array(-1.0)),
        make_scaling(np.arange(1, 5).reshape(4, 1)),
    ],
)
def test_any_other_scaling_is_left_alone(model: onnx.ModelProto) -> None:
    assert kinds(simplify(model)) == ["Cast", "Mul", "Add"]


def test_a_scaling_whose_parts_another_node_takes_is_left_alone() -> None:
    model = make_scaling(np.array(1 / 255))
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 4, 4, 1]))
    assert kinds(simplify(model)) == ["Cast", "Mul", "Add"]
    np.testing.assert_array_equal(run_bytes(simplify(model)), run_bytes(model))
