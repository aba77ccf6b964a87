"""A graph that looks at each image once <-> one that also looks at the mirror images of those it is unsure about.

Enters and leaves: an onnx.ModelProto from `images` uint8 [N, H, W, C] to `probabilities`. Does not know: Keras, how the
threshold was chosen (`evaluation/passes/second_view.py`).

Only the rows of unsure images go through the net again. Both passes share their weights. The nodes that are added have
names that begin with PREFIX, so that a conversion can take them away, change the net once, and add them again.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serve.errors import ModelFileError
from serve.model_file.spec import INPUT
from train.export.graph import Links

PREFIX = "second_view/"
FIRST = PREFIX + "first"
"""Name of the first pass's logits in a graph with two passes; the node that makes them had another name before."""


def add_second_view(model: onnx.ModelProto, below: float) -> onnx.ModelProto:
    """A copy that averages the logits of both views where the first answer's confidence is less than `below`.

    Confidence is the highest softmax of the first logits. Raises ModelFileError for a graph without such logits.
    """
    both = onnx.ModelProto()
    both.CopyFrom(model)
    graph = both.graph
    logits = find_logits(graph)
    first = find_sources(graph, logits)
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {name for node in first if set(node.input) <= weights for name in node.output}
    second = [_rename(node, weights) for node in first if not set(node.output) <= weights]
    kind = find_type(model, logits)
    head = [node for node in graph.node if node not in first]
    first[-1].output[0] = FIRST
    nodes = [*first, *_choose_rows(), *second, *_combine(PREFIX + logits, logits), *head]
    del graph.node[:]
    graph.node.extend(nodes)
    in_order = find_sources(graph, *(output.name for output in graph.output))
    del graph.node[:]
    graph.node.extend(in_order)
    graph.initializer.extend(_make_constants(below, kind))
    return both


def remove_second_view(model: onnx.ModelProto) -> tuple[onnx.ModelProto, float | None]:
    """A copy without a second view, and its threshold; None if the graph has none."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    graph = single.graph
    thresholds = [tensor for tensor in graph.initializer if tensor.name == PREFIX + "below"]
    if not thresholds:
        return single, None
    logits = next(node.output[0] for node in graph.node if node.name == PREFIX + "scatter")
    nodes = [node for node in graph.node if not node.name.startswith(PREFIX)]
    for node in nodes:
        if node.output[0] == FIRST:
            node.output[0] = logits
    kept = [tensor for tensor in graph.initializer if not tensor.name.startswith(PREFIX)]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return single, float(numpy_helper.to_array(thresholds[0]))


def find_logits(graph: onnx.GraphProto) -> str:
    """The name of the logits: of the last product with weights, or of the sum with its biases."""
    links = Links(graph)
    weights = set(links.weights) | {
        name for node in graph.node if set(node.input) <= set(links.weights) for name in node.output
    }
    products = [node for node in graph.node if node.op_type in ("Gemm", "MatMul") and node.input[1] in weights]
    if not products:
        raise ModelFileError("wanted a graph whose logits come from a product with weights, found none")
    sum_ = links.user(products[-1], "Add")
    return str((sum_ if sum_ and weights & set(sum_.input) else products[-1]).output[0])


def find_sources(graph: onnx.GraphProto, *values: str) -> list[onnx.NodeProto]:
    """The nodes that values depend on, each after those that it depends on itself; the first value's comes last."""
    makers = {name: node for node in graph.node for name in node.output}
    order: dict[str, onnx.NodeProto] = {}
    waiting = list(values)
    while waiting:
        node = makers[waiting[-1]]
        missing = [name for name in node.input if name in makers and makers[name].output[0] not in order]
        if missing:
            waiting += missing
        else:
            order[node.output[0]] = node
            waiting.pop()
    return list(order.values())


def find_type(model: onnx.ModelProto, value: str) -> int:
    """The type of a value's numbers, as onnx.TensorProto counts them."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return next(
        (each.type.tensor_type.elem_type for each in inferred.value_info if each.name == value), TensorProto.FLOAT
    )


def _rename(node: onnx.NodeProto, weights: set[str]) -> onnx.NodeProto:
    """A copy of a node for the second pass, whose values have names of their own."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = PREFIX + (node.name or node.output[0])
    copy.input[:] = [name if name in weights or not name else PREFIX + name for name in node.input]
    copy.output[:] = [PREFIX + name for name in node.output]
    return copy


def _choose_rows() -> list[onnx.NodeProto]:
    """From the first logits to the mirror images of the unsure rows, which are the input of the second pass."""
    return [
        _make("Softmax", ["first"], "softmax", axis=1),
        _make("Cast", ["softmax"], "exact", to=TensorProto.FLOAT),
        _make("ReduceMax", ["exact", "class_axis"], "confidence", keepdims=0),
        _make("Less", ["confidence", "below"], "unsure"),
        _make("NonZero", ["unsure"], "places"),
        _make("Transpose", ["places"], "rows", perm=[1, 0]),  # int64 [M, 1]
        helper.make_node("GatherND", [INPUT, PREFIX + "rows"], [PREFIX + "chosen"], PREFIX + "chosen"),
        _make("Slice", ["chosen", "end", "start", "width_axis", "backwards"], INPUT),
    ]


def _combine(second: str, logits: str) -> list[onnx.NodeProto]:
    """From the logits of both passes to those of the answer."""
    return [
        _make("GatherND", ["first", "rows"], "again"),
        helper.make_node("Add", [PREFIX + "again", second], [PREFIX + "sum"], PREFIX + "sum"),
        _make("Mul", ["sum", "half"], "mean"),
        helper.make_node("ScatterND", [FIRST, PREFIX + "rows", PREFIX + "mean"], [logits], PREFIX + "scatter"),
    ]


def _make(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, [PREFIX + name for name in inputs], [PREFIX + output], PREFIX + output, **attributes)


def _make_constants(below: float, kind: int) -> list[TensorProto]:
    values = {
        "below": np.array(below, np.float32),
        "half": np.array(0.5, helper.tensor_dtype_to_np_dtype(kind)),
        "class_axis": np.array([1], np.int64),
        "end": np.array([-1], np.int64),
        "start": np.array([np.iinfo(np.int64).min], np.int64),
        "width_axis": np.array([2], np.int64),
        "backwards": np.array([-1], np.int64),
    }
    return [numpy_helper.from_array(value, PREFIX + name) for name, value in values.items()]
