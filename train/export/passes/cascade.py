"""Two graphs -> one that asks the second net only about the images of which the first is unsure; and back.

Enters and leaves: onnx.ModelProto from `images` uint8 [N, H, W, C] to `probabilities` float32 [N, K], and a threshold.
Does not know: Keras, files, how the threshold was chosen (`evaluation/passes/cascade.py`).

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
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.spec import INPUT, OUTPUT
from train.evaluation.passes.joint_familiarity import LEAST, PRODUCT, JointFamiliarity
from train.export.familiarity.nodes import Writer, remove_familiarity

PREFIX, SECOND = "cascade/", "second_net/"
FIRST, FIRST_FAMILIARITY = PREFIX + "first", PREFIX + "first_familiarity"
CHOSEN = PREFIX + "chosen"
NUMBERS = ("below", "weight", "power")
AXES_AS_INPUT = 18  # the opset from which ReduceMax takes its axes as an input; before, they are an attribute


class Parts(NamedTuple):
    """The nets of a cascade."""

    first: onnx.ModelProto
    second: onnx.ModelProto
    below: float
    """Highest probability of the first net's answer below which the second net is asked."""
    weight: float
    """Share of the second net's probabilities in the mean with the first's, from 0 to 1."""
    power: float = 1.0
    """What that mean is raised to before it sums to 1 again, for a mean is less sure than it is right."""
    familiarity: JointFamiliarity | None = None
    """How those of both nets become one; None leaves them out."""


def join(parts: Parts) -> onnx.ModelProto:
    """One graph that answers with the mean of both nets where the first is unsure, and with the first's elsewhere.

    The older of two operation sets is raised. Raises ModelFileError if that cannot be done, or for a net with branches
    and loops.
    """
    if parts.familiarity is None:
        parts = parts._replace(first=remove_familiarity(parts.first), second=remove_familiarity(parts.second))
    version = max(_read_version(each) for each in (parts.first, parts.second))
    joined, second = (_raise_version(each, version) for each in (parts.first, parts.second))
    _rename(joined.graph, {OUTPUT: FIRST, FAMILIARITY: FIRST_FAMILIARITY})
    _rename(second.graph, _name_values(second.graph))
    for node in second.graph.node:
        node.name = SECOND + (node.name or node.output[0])
    known = {entry.domain for entry in joined.opset_import}
    joined.opset_import.extend(each for each in second.opset_import if each.domain not in known)
    joined.ir_version = max(joined.ir_version, second.ir_version)
    del joined.graph.value_info[:]
    joined.graph.node.extend([*_choose_rows(version), *second.graph.node, *_combine()])
    joined.graph.initializer.extend(second.graph.initializer)
    joined.graph.initializer.extend(_make_constants(parts))
    if parts.familiarity:
        _combine_familiarity(joined, parts.familiarity)
    return joined


def split(model: onnx.ModelProto) -> Parts | None:
    """The nets of a cascade, each as it was before `join`; None for another graph.

    How their familiarity became one is not read back: it is chosen anew whenever nets are joined.
    """
    numbers = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name.startswith(PREFIX)}
    if not numbers:
        return None
    below, weight, power = (float(numpy_helper.to_array(numbers[PREFIX + name])) for name in NUMBERS)
    first, second = onnx.ModelProto(), onnx.ModelProto()
    for part, is_second in ((first, False), (second, True)):
        part.CopyFrom(model)
        _keep(part.graph.node, is_second)
        _keep(part.graph.initializer, is_second)
        del part.graph.value_info[:]
    _rename(first.graph, {FIRST: OUTPUT, FIRST_FAMILIARITY: FAMILIARITY})
    names = {name for node in second.graph.node for name in (*node.input, *node.output)}
    _rename(second.graph, {name: name.removeprefix(SECOND) for name in names} | {CHOSEN: INPUT})
    for node in second.graph.node:
        node.name = node.name.removeprefix(SECOND)
    return Parts(first, second, below, weight, power)


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


def _combine() -> list[onnx.NodeProto]:
    """From the answers of both nets to that of the cascade."""
    return [
        _make("GatherND", ["first", "rows"], "again"),
        _make("Mul", ["again", "rest"], "share_of_first"),
        helper.make_node("Mul", [SECOND + OUTPUT, PREFIX + "weight"], [PREFIX + "share"], PREFIX + "share_of_second"),
        _make("Add", ["share_of_first", "share"], "mean"),
        _make("Pow", ["mean", "power"], "raised"),
        _make("ReduceSum", ["raised", "class_axis"], "sum", keepdims=1),
        _make("Div", ["raised", "sum"], "answer"),
        helper.make_node("ScatterND", [FIRST, PREFIX + "rows", PREFIX + "answer"], [OUTPUT], PREFIX + "scatter"),
    ]


def _combine_familiarity(joined: onnx.ModelProto, joint: JointFamiliarity) -> None:
    """From the familiarity of both nets to that of the cascade, in place."""
    writer, rows, both = Writer(joined, PREFIX), PREFIX + "rows", SECOND + FAMILIARITY
    if joint.way in (LEAST, PRODUCT):
        again = writer.add("GatherND", FIRST_FAMILIARITY, rows)
        both = writer.add("Min" if joint.way == LEAST else "Mul", again, both)
    whole = writer.add("ScatterND", FIRST_FAMILIARITY, rows, both)
    column = writer.add("Reshape", whole, np.array([-1, 1], np.int64))
    writer.look_up(writer.add("Sub", np.array([1.0]), column), joint.table)


def _make(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, [PREFIX + name for name in inputs], [PREFIX + output], PREFIX + output, **attributes)


def _make_constants(parts: Parts) -> list[onnx.TensorProto]:
    numbers = {"below": parts.below, "weight": parts.weight, "rest": 1 - parts.weight, "power": parts.power}
    constants = [numpy_helper.from_array(np.array(value, np.float32), PREFIX + name) for name, value in numbers.items()]
    return [*constants, numpy_helper.from_array(np.array([1], np.int64), PREFIX + "class_axis")]
