"""`train.export.foreign`: whatever a model takes, its graph gives the model's own answers to uint8 images."""

from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from train.data.datasets import Part
from train.export.foreign.convert import Choices, Converted, convert
from train.export.foreign.from_onnx import from_onnx
from train.export.foreign.layout import find_layout
from train.export.foreign.scaling import Scaling
from train.export.foreign.source import Unconvertible
from train.export.foreign.wrap import prune
from train.export.measure.parity import LARGEST_DIFFERENCE
from train.export.onnx_file import run_onnx

HEIGHT, WIDTH = 6, 4
IMAGENET = Scaling(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def write(folder: Path, sides: tuple[int, ...], dtype: str, batch: int | str = "N", squeeze: bool = False) -> Path:
    """A linear classifier of all pixels, for one layout and type."""
    count = int(np.prod(sides))
    weights = np.random.default_rng(0).normal(0, 0.01, (count, 3)).astype(np.float32)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["probabilities"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["rows"]),
        helper.make_node("Reshape", ["rows", "ends"], ["images"]),
    ]
    first = batch if isinstance(batch, int) else -1
    ends = [first, 3] if squeeze else [first, 3, 1, 1]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("probabilities", kind, [batch, *sides])],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *ends[1:]])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([first, count], np.int64), "shape"),
            numpy_helper.from_array(np.array(ends, np.int64), "ends"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def draw(channels: int, count: int = 5) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, HEIGHT, WIDTH, channels), np.uint8)


def answer(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What the classifier answers to values in its own order."""
    flat = values.reshape(len(values), -1)
    scores = flat @ np.random.default_rng(0).normal(0, 0.01, (flat.shape[1], 3))
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def convert_file(path: Path, scaling: Scaling | None, channels: int, **said: object) -> Converted:
    source = from_onnx(path)
    layout = find_layout(source.images, **said)  # type: ignore[arg-type]
    return convert(source, layout, 3, Choices(scaling), draw(channels))


@pytest.mark.parametrize(
    ("order", "colour", "scaling"),
    list(product(["nhwc", "nchw"], ["rgb", "bgr", "grey"], [Scaling(), Scaling(1 / 255), IMAGENET])),
)
def test_order_colour_and_scaling_are_in_the_graph(order: str, colour: str, scaling: Scaling, tmp_path: Path) -> None:
    """For a net of three channels, also one that was trained on grey pictures; with mean and deviation of each."""
    sides = (HEIGHT, WIDTH, 3) if order == "nhwc" else (3, HEIGHT, WIDTH)
    given = 1 if colour == "grey" else 3
    converted = convert_file(write(tmp_path, sides, "float32"), scaling, given, colour=colour, order=order)
    images = draw(given)
    pixels = images[..., ::-1] if colour == "bgr" else images.repeat(3 // given, axis=3)
    values = (pixels * scaling.scale - np.array(scaling.mean)) / np.array(scaling.std)
    wanted = answer(values if order == "nhwc" else values.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(run_onnx(converted.graph.SerializeToString(), images), wanted, atol=1e-5)
    assert converted.parity.largest_difference <= LARGEST_DIFFERENCE


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64", "int32", "int64"])
def test_every_type_of_numbers_is_taken(dtype: str, tmp_path: Path) -> None:
    converted = convert_file(write(tmp_path, (HEIGHT, WIDTH, 3), dtype), Scaling(), 3)
    found = run_onnx(converted.graph.SerializeToString(), draw(3))
    np.testing.assert_allclose(found, answer(draw(3).astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "scaling", "sentence"),
    [
        ("int32", Scaling(1 / 255), "whole numbers from -2147483648 .* int32; --scale 1/255 makes 0 to 1"),
        ("int8", Scaling(), "whole numbers from -128 to 127, .* int8; --scale 1 makes 0 to 255"),
        ("uint8", Scaling(1, (128,)), "whole numbers from 0 to 255, .* uint8; --scale 1 --mean 128 makes -128 to 127"),
    ],
)
def test_a_range_that_an_input_of_integers_cannot_hold_is_refused(
    dtype: str, scaling: Scaling, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(Unconvertible, match=f"wanted pixels that become {sentence}"):
        convert_file(write(tmp_path, (HEIGHT, WIDTH, 3), dtype), scaling, 3)


def test_signed_bytes_are_taken_with_their_middle_as_mean(tmp_path: Path) -> None:
    converted = convert_file(write(tmp_path, (HEIGHT, WIDTH, 3), "int8"), Scaling(1, (128,)), 3)
    found = run_onnx(converted.graph.SerializeToString(), draw(3))
    np.testing.assert_allclose(found, answer(draw(3) - 128.0), atol=1e-5)


@pytest.mark.parametrize(
    ("sides", "channels"), [((HEIGHT, WIDTH), 1), ((HEIGHT * WIDTH,), 1), ((HEIGHT * WIDTH * 3,), 3)]
)
def test_pictures_without_an_axis_of_channels_and_rows_of_pixels(
    sides: tuple[int, ...], channels: int, tmp_path: Path
) -> None:
    path = write(tmp_path, sides, "float32")
    converted = convert_file(path, Scaling(1 / 255), channels, size=(HEIGHT, WIDTH))
    found = run_onnx(converted.graph.SerializeToString(), draw(channels))
    np.testing.assert_allclose(found, answer(draw(channels) / 255), atol=1e-5)


@pytest.mark.parametrize(("batch", "squeeze"), [(1, True), (4, True), (2, False)])
def test_a_fixed_batch_is_made_free(batch: int, squeeze: bool, tmp_path: Path) -> None:
    path = write(tmp_path, (3, HEIGHT, WIDTH), "float32", batch, squeeze)
    converted = convert_file(path, Scaling(1 / 255), 3)
    assert f"the batch, fixed at {batch}, was made free" in converted.notes
    for count in (1, 3, 8):
        found = run_onnx(converted.graph.SerializeToString(), draw(3, count))
        np.testing.assert_allclose(found, answer(draw(3, count).transpose(0, 3, 1, 2) / 255), atol=1e-5)


def test_a_fixed_batch_is_made_free_where_shapes_are_lists_of_nodes(tmp_path: Path) -> None:
    """Their attribute is `value_ints` in place of a tensor."""
    path = write(tmp_path, (3, HEIGHT, WIDTH), "float32", 1, squeeze=True)
    model = onnx.load(path)
    for shape in [each for each in model.graph.initializer if each.name in ("shape", "ends")]:
        model.graph.initializer.remove(shape)
        values = numpy_helper.to_array(shape).tolist()
        model.graph.node.insert(0, helper.make_node("Constant", [], [shape.name], value_ints=values))
    path.write_bytes(model.SerializeToString())
    converted = convert_file(path, Scaling(1 / 255), 3)
    found = run_onnx(converted.graph.SerializeToString(), draw(3))
    np.testing.assert_allclose(found, answer(draw(3).transpose(0, 3, 1, 2) / 255), atol=1e-5)


def test_bytes_need_no_scale_and_floats_do(tmp_path: Path) -> None:
    assert convert_file(write(tmp_path, (HEIGHT, WIDTH, 3), "uint8"), None, 3).facts["scaling"]["scale"] == 1
    with pytest.raises(Unconvertible, match=r"wanted --scale, .* the input is float32"):
        convert_file(write(tmp_path, (HEIGHT, WIDTH, 3), "float32"), None, 3)


def test_labelled_pictures_show_which_range_fits(tmp_path: Path) -> None:
    source = from_onnx(write(tmp_path, (HEIGHT, WIDTH, 3), "float32"))
    images = draw(3, 40)
    hints = Part.whole(images, answer((images / 127.5) - 1).argmax(axis=1))
    with pytest.raises(Unconvertible, match=r"1\.000 of 40 images right with --scale 1/127\.5 --mean 1 "):
        convert(source, find_layout(source.images), 3, Choices(), images, hints=hints)


def test_ranges_that_an_input_cannot_hold_are_not_shown(tmp_path: Path) -> None:
    source = from_onnx(write(tmp_path, (HEIGHT, WIDTH, 3), "int32"))
    hints = Part.whole(draw(3), np.zeros(5, np.int64))
    with pytest.raises(Unconvertible, match=r"of 5 images right with --scale 1 \(0 to 255\)$"):
        convert(source, find_layout(source.images), 3, Choices(), draw(3), hints=hints)


def test_what_only_a_branch_uses_is_kept() -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["kept"], ["out"])], "inner", [], [
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [])
    ])  # fmt: skip
    nodes = [
        helper.make_node("Identity", ["x"], ["kept"]),
        helper.make_node("Identity", ["x"], ["unused"]),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])])
    prune(graph)
    assert [node.output[0] for node in graph.node] == ["kept", "y"]
