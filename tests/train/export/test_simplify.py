"""`train.export.simplify`: the same answers from operations that ONNX Runtime runs faster."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from train.export.from_keras import convert
from train.export.simplify import simplify
from train.nets.build import build
from train.recipes.net import Conv, Flatten, GlobalMax, Net, NormConv, Pool, Residual, Whitening

FILTERS = 3


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def make(nodes: Sequence[onnx.NodeProto], **weights: np.ndarray) -> onnx.ModelProto:
    """A graph from `x` float32 [N, 4, 8, 8] to `y`."""
    shapes = {"x": ["N", 4, 8, 8], "y": ["N", "C", "H", "W"]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "graph", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": draw(2, 4, 8, 8)})[0])


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def optimize(model: onnx.ModelProto, path: Path) -> list[str]:
    """The operations that ONNX Runtime runs after its own optimisations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return kinds(onnx.load(path))


def test_a_net_has_gelu_kernels_and_no_normalisation(tmp_path: Path) -> None:
    net = (Whitening(), NormConv(6, pooled=True), Residual(6), NormConv(6), GlobalMax())
    found = optimize(convert(build(net, (16, 16, 3), 5)), tmp_path / "optimized.onnx")
    assert (found.count("Gelu"), found.count("Erf"), found.count("Conv")) == (5, 0, 5)
    assert found[found.index("MaxPool") + 1] == "Gelu", "nothing is left of the norm"


@pytest.mark.parametrize(
    "net",
    [
        (Whitening(), NormConv(6, pooled=True), NormConv(6), GlobalMax()),
        (Conv(4), Pool(), Conv(5), Pool(), Flatten()),
    ],
)
def test_a_nets_probabilities_stay_what_they_were(net: Net) -> None:
    model = build(net, (16, 16, 3), 5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # neither 0 nor 1, as after training
            weights = [np.abs(draw(*weight.shape)) + 0.5 for weight in layer.get_weights()]
            layer.set_weights(weights)
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    session = onnxruntime.InferenceSession(convert(model).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        session.run(None, {"images": images})[0], model.predict_on_batch(images), rtol=1e-4, atol=1e-6
    )


def make_gelu(root: float = 0.5**0.5, one: float = 1.0, half: float = 0.5, *, turned: bool = False) -> onnx.ModelProto:
    pairs = [["x", "root"], ["e", "one"], ["x", "half"], ["h", "a"]]
    scaled, sum_, halved, product = (pair[::-1] if turned else pair for pair in pairs)
    nodes = [
        helper.make_node("Mul", scaled, ["s"]),
        helper.make_node("Erf", ["s"], ["e"]),
        helper.make_node("Add", sum_, ["a"]),
        helper.make_node("Mul", halved, ["h"]),
        helper.make_node("Mul", product, ["y"]),
    ]
    return make(nodes, root=np.float32(root), one=np.float32(one), half=np.float32(half))


@pytest.mark.parametrize("turned", [False, True])
def test_a_gelu_is_found_in_any_order_of_its_factors(turned: bool, tmp_path: Path) -> None:
    model = make_gelu(turned=turned)
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert kinds(simple) == ["Gelu"]
    assert optimize(simple, tmp_path / "optimized.onnx") == ["Gelu"], "ONNX Runtime has a kernel of it"
    np.testing.assert_allclose(run(simple), run(model), atol=1e-6)


@pytest.mark.parametrize("other", [{"root": 0.7}, {"one": 2.0}, {"half": 0.25}])
def test_a_formula_that_only_resembles_a_gelu_is_left_alone(other: dict[str, float]) -> None:
    model = make_gelu(**other)
    assert kinds(simplify(model)) == kinds(model)
    np.testing.assert_array_equal(run(simplify(model)), run(model))


@pytest.mark.parametrize("value", ["s", "e", "a", "h"])
def test_a_gelu_whose_parts_another_node_takes_is_left_alone(value: str) -> None:
    model = make_gelu()
    model.graph.node.append(helper.make_node("Relu", [value], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", "C", "H", "W"]))
    assert kinds(simplify(model)) == kinds(model)
    np.testing.assert_array_equal(run(simplify(model)), run(model))


def make_pooled(scale: np.ndarray, *, more: Sequence[onnx.NodeProto] = (), bias: bool = True) -> onnx.ModelProto:
    """A convolution, a MaxPool, and the scale and shift of a norm."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"] if bias else ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Mul", ["p", "scale"], ["s"]),
        helper.make_node("Add", ["s", "shift"], ["y"]),
        *more,
    ]
    biases = {"bias": draw(FILTERS)} if bias else {}
    return make(nodes, kernel=draw(FILTERS, 4, 3, 3), scale=scale, shift=draw(1, FILTERS, 1, 1), **biases)


SCALE = np.float32([0.5, 2, 3]).reshape(1, FILTERS, 1, 1)


@pytest.mark.parametrize("bias", [True, False])
def test_scale_and_shift_after_a_pooling_go_into_the_convolution(bias: bool) -> None:
    model = make_pooled(SCALE, bias=bias)
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert kinds(simple) == ["Conv", "MaxPool"]
    assert len(simple.graph.initializer) == 2, "the old kernel is gone"
    np.testing.assert_allclose(run(simple), run(model), rtol=1e-5, atol=1e-5)


def test_a_scale_below_zero_stays_where_it_is() -> None:
    """The largest value times -1 is the smallest one."""
    model = make_pooled(SCALE * [[[[1]], [[-1]], [[1]]]])
    assert kinds(simplify(model)) == kinds(model)
    np.testing.assert_array_equal(run(simplify(model)), run(model))


def test_a_shift_alone_is_folded_and_a_scale_of_one_number_is_not() -> None:
    model = make_pooled(np.float32(2))
    assert kinds(simplify(model)) == kinds(model)
    nodes = [node for node in model.graph.node if node.op_type != "Mul"]
    nodes[-1].input[0] = "p"
    shifted = make(nodes, **{tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer})
    assert kinds(simplify(shifted)) == ["Conv", "MaxPool"]
    np.testing.assert_allclose(run(simplify(shifted)), run(shifted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", ["c", "p", "s"])
def test_a_value_that_another_node_takes_is_kept(value: str) -> None:
    model = make_pooled(SCALE, more=[helper.make_node("Relu", [value], ["z"])])
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    simple = simplify(model)
    assert "Relu" in kinds(simple)
    sessions = [
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        for each in (model, simple)
    ]
    for before, after in zip(*(session.run(None, {"x": draw(2, 4, 8, 8)}) for session in sessions), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_flattening_computes_no_shape() -> None:
    model = convert(build((Conv(4), Pool(), Flatten()), (8, 8, 3), 5))
    assert {"Shape", "Concat", "Slice", "Gather"}.isdisjoint(kinds(model))
    shapes = [
        numpy_helper.to_array(tensor).tolist()
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT64
    ]
    assert [-1, 4 * 4 * 4] in shapes
    for count in (1, 3):
        images = np.zeros((count, 8, 8, 3), np.uint8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert session.run(None, {"images": images})[0].shape == (count, 5)


def test_a_shape_that_is_not_known_is_computed_as_before() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Reshape", ["x", "shape"], ["y"])]
    assert kinds(simplify(make(nodes))) == ["Shape", "Reshape"]


def test_a_second_pass_over_a_graph_is_as_safe_as_the_first() -> None:
    """New weights get unused names."""
    again = [helper.make_node("Mul", ["y", "scale"], ["z"])]
    model = make_pooled(SCALE, more=again)
    model.graph.output[0].name = "z"
    simple = simplify(simplify(model))
    assert kinds(simple) == ["Conv", "MaxPool"]
    assert len({tensor.name for tensor in simple.graph.initializer}) == len(simple.graph.initializer)
    np.testing.assert_allclose(run(simple), run(model), rtol=1e-5, atol=1e-5)


def test_a_graph_with_a_branch_is_left_alone() -> None:
    """Values that a branch uses are not visible outside."""
    ends = [helper.make_tensor_value_info("then", TensorProto.FLOAT, ["N", "C", "H", "W"])]
    branch = helper.make_graph([helper.make_node("Mul", ["x", "inner"], ["then"])], "branch", [], ends)
    model = make(
        [helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)],
        inner=np.float32(2),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    assert simplify(model).SerializeToString() == model.SerializeToString()


def test_weights_that_a_caller_may_set_are_left_alone() -> None:
    model = make_pooled(SCALE)
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1, FILTERS, 1, 1]))
    assert simplify(model).SerializeToString() == model.SerializeToString()


def test_a_convolution_of_a_line_is_left_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2]),
        helper.make_node("Add", ["p", "shift"], ["y"]),
    ]
    model = make(nodes, kernel=draw(FILTERS, 4, 3), shift=draw(FILTERS, 1, 1))
    assert kinds(simplify(model)) == kinds(model)


def test_the_graph_that_was_given_is_left_as_it_was() -> None:
    model = make_pooled(SCALE)
    before = model.SerializeToString()
    simplify(model)
    assert model.SerializeToString() == before
