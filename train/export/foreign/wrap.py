"""The graph of a `Source` -> a graph from `images` uint8 [N, H, W, C] to the chosen output, float32 [N, K].

Enters: a graph, a `Layout`, a `Scaling`, the name of an output. Leaves: the graph with everything in front of it, and
with a free batch. Does not know: what the outputs mean, where a graph came from.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from serve.model_file.spec import INPUT
from train.export.foreign.layout import NCHW, Layout
from train.export.foreign.scaling import Front, Scaling
from train.export.foreign.source import Tensor, Unconvertible, read_constant

PREFIX = "net/"
ANSWERS = "answers"


def wrap(model: onnx.ModelProto, layout: Layout, scaling: Scaling, output: Tensor, classes: int) -> onnx.ModelProto:
    """A copy with the front and the chosen output, as float32 [N, `classes`], named ANSWERS."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if layout.batch is not None:
        model = free_batch(model, layout.batch)
    # Names of a graph from elsewhere may be ours.
    whole: onnx.ModelProto = onnx.compose.add_prefix(model, PREFIX)
    graph = whole.graph
    front = _make_front(layout, scaling)
    front.nodes[-1].output[0] = graph.input[0].name
    end, weights = _make_end(PREFIX + output.name, output, classes)
    nodes = [*front.nodes, *graph.node, *end]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*front.weights, *weights])
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", *layout.input.shape]))
    graph.output.append(helper.make_tensor_value_info(ANSWERS, TensorProto.FLOAT, ["N", classes]))
    prune(graph)
    return whole


def _make_front(layout: Layout, scaling: Scaling) -> Front:
    """Bytes are moved first, because they are cheaper to move than what becomes of them."""
    front = Front(value=INPUT)
    if layout.colour == "bgr":
        front.add("Gather", np.array([2, 1, 0], np.int64), axis=3)
    if layout.colour == "grey" and layout.channels == 3:
        front.add("Gather", np.array([0, 0, 0], np.int64), axis=3)
    is_first = layout.order == NCHW and layout.channels > 1
    if is_first:
        front.add("Transpose", perm=[0, 3, 1, 2])
    if layout.dtype != "uint8" or scaling != Scaling():
        _add_scaling(front, scaling, is_first)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(layout.dtype))
    if kind not in (TensorProto.FLOAT, TensorProto.UINT8):
        front.add("Cast", to=kind)
    in_order = (layout.channels, layout.height, layout.width) if is_first else layout.input.shape
    if layout.shape != in_order or not front.nodes:
        front.add("Reshape", np.array([-1, *layout.shape], np.int64))
    return front


def _add_scaling(front: Front, scaling: Scaling, is_first: bool) -> None:
    factor, shift = scaling.factor, scaling.shift
    if factor.size == 1:
        front.add("DequantizeLinear", factor.reshape(()))  # a cast and a product in one pass
    else:
        front.add("Cast", to=TensorProto.FLOAT)
        front.add("Mul", factor.reshape(-1, 1, 1) if is_first else factor)
    if shift.any():
        front.add("Add", shift.reshape(-1, 1, 1) if is_first else shift)


def _make_end(value: str, output: Tensor, classes: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    shape = numpy_helper.from_array(np.array([-1, classes], np.int64), "inkling/shape")
    nodes = [helper.make_node("Reshape", [value, shape.name], ["inkling/rows"])]
    nodes.append(helper.make_node("Cast", ["inkling/rows"], [ANSWERS], to=TensorProto.FLOAT))
    if output.dtype == "float32":
        nodes.pop()
        nodes[0].output[0] = ANSWERS
    if output.shape and len(output.shape) == 2:
        nodes[0] = helper.make_node("Identity", [value], [nodes[0].output[0]])
        return nodes, []
    return nodes, [shape]


def free_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy that takes any number of images, as far as that can be seen in its shapes; a run has to prove it."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    graph = free.graph
    for value in (*graph.input, *graph.output):
        sides = value.type.tensor_type.shape.dim
        if sides and sides[0].dim_value == batch:
            sides[0].dim_param = "N"
    del graph.value_info[:]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for name in shapes & weights.keys():
        _free_shape(weights[name], batch)
    for node in graph.node:
        if shapes & set(node.output) and (shape := read_constant(node)):
            _free_shape(shape, batch)
            node.attribute[0].CopyFrom(helper.make_attribute("value", shape))
    return free


def _free_shape(tensor: onnx.TensorProto, batch: int) -> None:
    shape = numpy_helper.to_array(tensor).copy()
    if shape.size and shape[0] == batch:
        shape[0] = 0 if (shape == -1).any() else -1  # 0 takes the side of the input
        tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))


def prune(graph: onnx.GraphProto) -> None:
    """Remove what no result depends on, in place. Operations with graphs inside keep what these use."""
    used = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if used & set(node.output):
            kept.insert(0, node)
            used |= set(_list_inputs(node))
    del graph.node[:]
    graph.node.extend(kept)
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _list_inputs(node: Any) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graph.node:
                yield from _list_inputs(inner)
            yield from (value.name for value in graph.output)


def choose_output(outputs: tuple[Tensor, ...], name: str | None, class_count: int) -> tuple[Tensor, int]:
    """The output that holds the classes, and its number of columns. Raises Unconvertible."""
    found = {each.name: each for each in outputs}
    if name is not None and name not in found:
        raise Unconvertible(f"--output {name}: wanted one of {', '.join(map(str, outputs))}")
    asked = [found[name]] if name is not None else list(outputs)
    columns = [(each, _count_columns(each, class_count)) for each in asked]
    fitting = [(each, count) for each, count in columns if count]
    if len(fitting) > 1:
        listed = " or ".join(str(each) for each, _ in fitting)
        raise Unconvertible(f"wanted one output of classes, found {len(fitting)}; choose with --output: {listed}")
    if not fitting:
        listed = ", ".join(map(str, asked)) or "none"
        raise Unconvertible(f"wanted an output of classes, float [N, K] with K over 0; found {listed}")
    return fitting[0]


def _count_columns(output: Tensor, class_count: int) -> int:
    """How many numbers an output has for each image; 0 if they are no classes."""
    if not output.dtype.startswith("float"):
        return 0
    if output.shape is None or output.shape == ():  # some exporters leave it open
        return class_count
    sides = [side for side in output.shape[1:] if side != 1]
    if len(sides) > 1:
        return 0
    if not sides:
        return 1
    return class_count if sides[0] is None else sides[0]
