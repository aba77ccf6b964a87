"""A fitted distance and its table -> nodes behind the last layer's values that give the output `familiarity`.

Enters: an onnx.ModelProto, the values that its last layer takes, a `Distance` and a `Table`. Leaves: a copy with the
output float32 [N], or a copy without it. Does not know: images, how the distance was fitted, model files.

The nodes take and give float32 whatever the precision of the net. They are few, for each costs more time than its
arithmetic.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from serve.model_file.familiarity import FAMILIARITY
from train.evaluation.familiarity import LEAST_NORM, Distance, Table

PREFIX = f"{FAMILIARITY}/"  # of the names of nodes and weights
REDUCE_OPSETS = {"ReduceSumSquare": 18, "ReduceL2": 18, "ReduceMean": 18, "ReduceMin": 18}
"""The opset from which the axes of a reduction are an input and no attribute."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The values that the last layer of a net takes."""

    name: str
    passes: int
    """Rows of one image: 2, if its mirror image passes the net too."""
    is_half: bool
    """Whether they are float16."""


def append_nodes(model: onnx.ModelProto, layer: Layer, distance: Distance, table: Table) -> onnx.ModelProto:
    """A copy with the output `familiarity`, float32 [N]."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    writer = Writer(whole, PREFIX)
    features = writer.take(layer, distance)
    centred = -distance.centre @ distance.whitening
    white = writer.add("Gemm", features, distance.whitening, centred)  # [N, D]
    squares = writer.reduce("ReduceSumSquare", white, 1)  # [N, 1]
    products = writer.add("Gemm", white, -2 * distance.means.T, (distance.means**2).sum(axis=1))  # [N, K]
    measured = writer.reduce("ReduceMin", writer.add("Add", squares, products), 1)
    if distance.background is not None:
        around = writer.add("Gemm", features, distance.background, -distance.centre @ distance.background)
        measured = writer.add("Sub", measured, writer.reduce("ReduceSumSquare", around, 1))
    writer.look_up(measured, table)
    whole.graph.output.append(helper.make_tensor_value_info(FAMILIARITY, TensorProto.FLOAT, ["N"]))
    return whole


def remove_familiarity(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the output and without what only it needs."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    outputs = [each for each in graph.output if each.name != FAMILIARITY]
    nodes = [each for each in graph.node if not each.name.startswith(PREFIX)]
    weights = [each for each in graph.initializer if not each.name.startswith(PREFIX)]
    del graph.output[:], graph.node[:], graph.initializer[:]
    graph.output.extend(outputs)
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return bare


class Writer:
    """Appends nodes to a graph, with names of their own."""

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        """All names of nodes and weights begin with `prefix`."""
        self._graph, self._prefix = model.graph, prefix
        self._opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))

    def take(self, layer: Layer, distance: Distance) -> str:
        """The features [N, D] of a layer, as the distance takes them."""
        features = self.add("Cast", layer.name, to=TensorProto.FLOAT) if layer.is_half else layer.name
        if layer.passes > 1:
            shape = np.array([layer.passes, -1, len(distance.centre)], np.int64)
            features = self.reduce("ReduceMean", self.add("Reshape", features, shape), 0, keepdims=0)
        if distance.way.is_unit:
            norm = self.add("Max", self.reduce("ReduceL2", features, 1), np.array(LEAST_NORM))
            features = self.add("Div", features, norm)
        return features

    def look_up(self, measured: str, table: Table) -> None:
        """The share of each distance [N, 1], linear between the knots: 1 less a part of each step that is passed."""
        widths, steps = np.diff(table.distances), np.diff(table.shares)
        passed = self.add("Gemm", measured, 1 / widths[None], -table.distances[:-1] / widths)  # [N, steps]
        parts = self.add("Clip", passed, np.array(0.0), np.array(1.0))
        shares = self.add("Gemm", parts, steps[:, None], np.array([1.0]))  # [N, 1]
        bounded = self.add("Clip", shares, np.array(0.0), np.array(1.0))
        self.add("Reshape", bounded, np.array([-1], np.int64), result=FAMILIARITY)

    def reduce(self, kind: str, values: str, axis: int, keepdims: int = 1) -> str:
        """Reduce one axis."""
        if self._opset >= REDUCE_OPSETS[kind]:
            return self.add(kind, values, np.array([axis], np.int64), keepdims=keepdims)
        return self.add(kind, values, axes=[axis], keepdims=keepdims)

    def add(self, kind: str, *inputs: str | npt.NDArray[np.float64 | np.int64], result: str = "", **facts: Any) -> str:
        """Append a node that takes values by name, and weights. Returns the name of what it gives."""
        name = f"{self._prefix}{len(self._graph.node)}"
        names = [each if isinstance(each, str) else self._keep(f"{name}/{at}", each) for at, each in enumerate(inputs)]
        self._graph.node.append(helper.make_node(kind, names, [result or name], name=name, **facts))
        return result or name

    def _keep(self, name: str, weight: npt.NDArray[np.float64 | np.int64]) -> str:
        kept = weight if weight.dtype == np.int64 else weight.astype(np.float32)
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(kept), name))
        return name
