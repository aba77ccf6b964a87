"""An ONNX graph -> who makes and who uses each of its values.

Enters: an ONNX graph. Leaves: `Links`, which finds the neighbours of a node, and the weights among what it takes.
Does not know: branches and loops, whose nodes stand elsewhere; what the neighbours are looked for.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[np.float32]


class Links:
    """Who makes and who uses each value of a graph, as it is now."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.results = {value.name for value in graph.output}
        self._nodes = graph.node

    def user(self, node: onnx.NodeProto | None, kind: str) -> onnx.NodeProto | None:
        """The only node that takes what `node` makes, if it is of a kind."""
        users = [each for each in self._nodes if node and node.output[0] in each.input]
        is_alone = len(users) == 1 and node and node.output[0] not in self.results
        return users[0] if is_alone and users[0].op_type == kind else None

    def maker(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that makes a value, if it is of a kind."""
        node = self.makers.get(name)
        return node if node and node.op_type == kind else None

    def weight(self, node: onnx.NodeProto) -> Array | None:
        """The weights among what a node of two inputs takes."""
        found = [self.weights[name] for name in node.input if name in self.weights]
        return numpy_helper.to_array(found[0]) if len(found) == 1 else None

    def is_by(self, node: onnx.NodeProto, number: float) -> bool:
        """Whether one input of a node is this number."""
        weight = self.weight(node)
        return weight is not None and weight.size == 1 and bool(np.isclose(weight, number, rtol=1e-6).all())

    def value(self, node: onnx.NodeProto) -> str | None:
        """The first input of a node that is no weight."""
        return next((name for name in node.input if name not in self.weights), None)
