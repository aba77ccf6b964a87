"""`train.export.quantize`: products are in 8 bits, except where that is slower."""

from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.train.export.test_simplify import kinds, optimize
from train.export.from_keras import convert
from train.export.onnx_file import run_onnx
from train.export.quantize import make_int8, pool_first
from train.nets.build import build
from train.recipes.net import Conv, Dense, Flatten, GlobalMax, Net, NormConv, Pool

GREY, RGB = (12, 12, 1), (12, 12, 3)


def draw_images(shape: tuple[int, int, int], count: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def quantize(net: Net, shape: tuple[int, int, int], path: Path) -> list[str]:
    keras.utils.set_random_seed(0)
    return optimize(make_int8(convert(build(net, shape, 3)), draw_images(shape)), path)


def test_convolutions_after_the_first_compute_in_8_bits_and_gelu_does_not(tmp_path: Path) -> None:
    net = (NormConv(8, pooled=True), NormConv(8), NormConv(8), GlobalMax())
    found = quantize(net, RGB, tmp_path / "optimized.onnx")
    assert found.index("Conv") < found.index("QLinearConv")
    assert (found.count("QLinearConv"), found.count("Conv"), found.count("Gelu")) == (2, 1, 3)


def test_an_outlier_does_not_decide_a_range() -> None:
    keras.utils.set_random_seed(0)
    model = convert(build((Flatten(), Dense(8)), RGB, 3))
    dark = np.random.default_rng(0).integers(0, 10, (1000, *RGB), np.uint8)
    bright = np.concatenate([dark[:999], np.full((1, *RGB), 255, np.uint8)])
    expected, *found = (
        run_onnx(each.SerializeToString(), dark) for each in (model, make_int8(model, dark), make_int8(model, bright))
    )
    errors = [np.abs(each - expected).max() for each in found]
    assert errors[1] < 12 * errors[0]  # the outlier's own range would make errors 25 times as large


def test_only_the_convolution_of_one_channel_stays_float32(tmp_path: Path) -> None:
    found = quantize((NormConv(8, pooled=True), NormConv(8), GlobalMax()), GREY, tmp_path / "optimized.onnx")
    assert (found.count("QLinearConv"), found.count("Conv")) == (1, 1)


def test_the_result_of_a_grey_convolution_is_pooled_before_quantization(tmp_path: Path) -> None:
    """Otherwise ONNX Runtime pools bytes in a layout in which that is slow."""
    net = (Conv(8), Pool(), Flatten(), Dense(8))
    found = quantize(net, GREY, tmp_path / "optimized.onnx")
    assert "QLinearMatMul" in found
    assert found.index("MaxPool") < found.index("QuantizeLinear")


def test_an_int8_net_of_grey_images_answers_as_the_net_does() -> None:
    keras.utils.set_random_seed(0)
    model = convert(build((Conv(8), Pool(), Conv(8), Pool(), Flatten()), GREY, 3))
    small = make_int8(model, draw_images(GREY))
    answers = [run_onnx(each.SerializeToString(), draw_images(GREY)) for each in (model, small)]
    np.testing.assert_allclose(answers[1], answers[0], atol=0.05)


def make_pooled(channels: int, groups: int) -> onnx.ModelProto:
    """A convolution, Relu and MaxPool of images float32 [N, channels, 8, 8]."""
    kernel = np.random.default_rng(0).normal(size=(4, channels // groups, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], group=groups),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    shapes = {"x": ["N", channels, 8, 8], "y": ["N", 4, 3, 3]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], [numpy_helper.from_array(kernel, "kernel")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto, channels: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = np.random.default_rng(1).normal(size=(2, channels, 8, 8)).astype(np.float32)
    return np.asarray(session.run(None, {"x": values})[0])


def test_pooling_first_changes_no_value() -> None:
    before = make_pooled(1, 1)
    after = pool_first(before)
    onnx.checker.check_model(after, full_check=True)
    assert kinds(after) == ["Conv", "MaxPool", "Relu"]
    np.testing.assert_array_equal(run(after, 1), run(before, 1))


def test_a_pooling_after_any_other_convolution_stays_where_it_is() -> None:
    for channels, groups in ((4, 1), (4, 4)):
        model = make_pooled(channels, groups)
        assert pool_first(model).SerializeToString() == model.SerializeToString()


def test_a_pooling_stays_if_another_node_takes_the_relus_output() -> None:
    model = make_pooled(1, 1)
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 4, 6, 6]))
    assert pool_first(model).SerializeToString() == model.SerializeToString()
