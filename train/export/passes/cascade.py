"""Two graphs -> one that asks the second net only about the images of which the first is unsure; and back.

Enters and leaves: onnx.ModelProto from `images` uint8 [N, H, W, C] to `probabilities` float32 [N, K], and a threshold.
Does not know: Keras, files, how the threshold was chosen (`evaluation/cascade.py`).

Most images are easy, and a small net answers them as a large one does (Viola & Jones 2001; Wang et al. 2022, "Wisdom of
Committees"). Only the rows of unsure images reach the second net. Its nodes, values and weights have names that begin
with SECOND, and those that join both nets begin with PREFIX, so that the graph can be taken apart.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.version_converter
from onnx import helper, numpy_helper

from serve.errors import ModelFileError
from serve.model_file.spec import INPUT, OUTPUT

PREFIX, SECOND = "cascade/", "second_net/"
FIRST = PREFIX + "first"
CHOSEN = PREFIX + "chosen"
AXES_AS_INPUT = 18  # the opset from which ReduceMax takes its axes as an input; before, they are an attribute


class Parts(NamedTuple):
    """The nets of a cascade."""

    first: onnx.ModelProto
    second: onnx.ModelProto
    below: float
    """Highest probability of the first net's answer below which the second net answers."""


def join(parts: Parts) -> onnx.ModelProto:
    """One graph whose answer is the second net's where the first is unsure, and the first's elsewhere.

    The older of two operation sets is raised. Raises ModelFileError if that cannot be done, or for a net with branches
    and loops.
    """
    version = max(_read_version(each) for each in (parts.first, parts.second))
    joined, second = (_raise_version(each, version) for each in (parts.first, parts.second))
    _rename(joined.graph, {OUTPUT: FIRST})
    _rename(second.graph, _name_values(second.graph))
    for node in second.graph.node:
        node.name = SECOND + (node.name or node.output[0])
    known = {entry.domain for entry in joined.opset_import}
    joined.opset_import.extend(each for each in second.opset_import if each.domain not in known)
    joined.ir_version = max(joined.ir_version, second.ir_version)
    del joined.graph.value_info[:]
    joined.graph.node.extend([*_choose_rows(version), *second.graph.node, _scatter()])
    joined.graph.initializer.extend(second.graph.initializer)
    joined.graph.initializer.extend(_make_constants(parts.below))
    return joined


def split(model: onnx.ModelProto) -> Parts | None:
    """The nets of a cascade, each as it was before `join`; None for another graph.

    What was added to the whole since, such as a familiarity, stays with the first net.
    """
    thresholds = [tensor for tensor in model.graph.initializer if tensor.name == PREFIX + "below"]
    if not thresholds:
        return None
    first, second = onnx.ModelProto(), onnx.ModelProto()
    for part, is_second in ((first, False), (second, True)):
        part.CopyFrom(model)
        _keep(part.graph.node, is_second)
        _keep(part.graph.initializer, is_second)
        del part.graph.value_info[:]
    _rename(first.graph, {FIRST: OUTPUT})
    names = {name for node in second.graph.node for name in (*node.input, *node.output)}
    _rename(second.graph, {name: name.removeprefix(SECOND) for name in names} | {CHOSEN: INPUT})
    for node in second.graph.node:
        node.name = node.name.removeprefix(SECOND)
    outputs = [output for output in second.graph.output if output.name == OUTPUT]
    del second.graph.output[:]
    second.graph.output.extend(outputs)
    return Parts(first, second, float(numpy_helper.to_array(thresholds[0])))


def _read_version(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _raise_version(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """A copy of a net with a newer operation set. Raises ModelFileError."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if _read_version(model) == version:
        return copy
    try:
        raised: onnx.ModelProto = onnx.version_converter.convert_version(copy, version)
    except Exception as error:  # the converter raises any kind of exception
        found = f"found {_read_version(model)}, which no converter takes"
        raise ModelFileError(f"wanted two nets of opset {version}, {found}; export that net anew") from error
    return raised


def _keep(things: Any, is_second: bool) -> None:
    """Keep the nodes or weights of one net."""
    kept = [each for each in things if not each.name.startswith(PREFIX) and each.name.startswith(SECOND) == is_second]
    del things[:]
    things.extend(kept)


def _name_values(graph: onnx.GraphProto) -> dict[str, str]:
    """New names for all values and weights of the second net."""
    names = {name for node in graph.node for name in (*node.input, *node.output) if name}
    names |= {tensor.name for tensor in graph.initializer}
    return {name: SECOND + name for name in names} | {INPUT: CHOSEN}


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give values and weights other names, in place. Raises ModelFileError for a graph within the graph."""
    for node in graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ModelFileError(f"wanted nets without branches and loops, found the operation {node.op_type}")
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


def _choose_rows(version: int) -> list[onnx.NodeProto]:
    """From the first net's probabilities to the images of the unsure rows, which the second net takes."""
    by_input = version >= AXES_AS_INPUT
    taken = [FIRST, PREFIX + "class_axis"] if by_input else [FIRST]
    axes: dict[str, Any] = {} if by_input else {"axes": [1]}
    name = PREFIX + "confidence"
    return [
        helper.make_node("ReduceMax", taken, [name], name, keepdims=0, **axes),
        _make("Less", ["confidence", "below"], "unsure"),
        _make("NonZero", ["unsure"], "places"),
        _make("Transpose", ["places"], "rows", perm=[1, 0]),  # int64 [M, 1]
        helper.make_node("GatherND", [INPUT, PREFIX + "rows"], [CHOSEN], CHOSEN),
    ]


def _scatter() -> onnx.NodeProto:
    return helper.make_node("ScatterND", [FIRST, PREFIX + "rows", SECOND + OUTPUT], [OUTPUT], PREFIX + "scatter")


def _make(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, [PREFIX + name for name in inputs], [PREFIX + output], PREFIX + output, **attributes)


def _make_constants(below: float) -> list[onnx.TensorProto]:
    threshold, axis = np.array(below, np.float32), np.array([1], np.int64)
    return [numpy_helper.from_array(threshold, PREFIX + "below"), numpy_helper.from_array(axis, PREFIX + "class_axis")]
