"""An ONNX graph: its nodes linked by their values, and its large weights kept in 16 bits.

Enters: an ONNX graph whose weights are float32. Leaves: `Links`, which finds the nodes before and after a node; or a
graph whose large weights are float16 initialisers with a Cast to float32. ONNX Runtime runs these casts once, when it
loads the file. Does not know: Keras, metadata, branches and loops.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]

LEAST_SIZE = 4096  # numbers in a tensor; rounding a smaller one saves nothing
ENDING = ".float16"


class Links:
    """The nodes of a graph by the values that they make and take, at the time of the call."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.results = {value.name for value in graph.output}
        self._nodes = graph.node

    def user(self, node: onnx.NodeProto | None, kind: str) -> onnx.NodeProto | None:
        """The node that takes the output of `node`, if it is the only one and of this kind."""
        users = [each for each in self._nodes if node and node.output[0] in each.input]
        is_only = len(users) == 1 and node and node.output[0] not in self.results
        return users[0] if is_only and users[0].op_type == kind else None

    def maker(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that makes a value, if it is of this kind."""
        node = self.makers.get(name)
        return node if node and node.op_type == kind else None

    def weight(self, node: onnx.NodeProto) -> Array | None:
        """The weight among the two inputs of a node, if one of them is a weight."""
        found = [self.weights[name] for name in node.input if name in self.weights]
        return numpy_helper.to_array(found[0]) if len(found) == 1 else None

    def is_by(self, node: onnx.NodeProto, number: float) -> bool:
        """Whether one of the two inputs of a node is this number."""
        weight = self.weight(node)
        return weight is not None and weight.size == 1 and bool(np.isclose(weight, number, rtol=1e-6).all())

    def value(self, node: onnx.NodeProto) -> str | None:
        """The name of the first input that is no weight."""
        return next((name for name in node.input if name not in self.weights), None)


def halve(model: onnx.ModelProto, least_size: int = LEAST_SIZE) -> onnx.ModelProto:
    """A copy in which float32 initialisers of at least `least_size` numbers are float16, named with ENDING.

    A weight changes by at most 1 in 2,048, or 3e-8. Raises ValueError for a weight that float16 cannot represent.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    large = [tensor for tensor in halved.graph.initializer if _is_float_of(least_size, tensor)]
    casts = [_halve_tensor(tensor) for tensor in large]
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def _is_float_of(least_size: int, tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= least_size


def _halve_tensor(tensor: onnx.TensorProto) -> onnx.NodeProto:
    """Round a tensor in place, and return the node that makes it float32 again under its old name."""
    name, weights = tensor.name, numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        rounded = weights.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ValueError(f"{name} has a weight of {np.abs(weights).max():.3g}: wanted at most 65504 for float16")
    tensor.CopyFrom(numpy_helper.from_array(rounded, name + ENDING))
    return helper.make_node("Cast", [name + ENDING], [name], name=name + "/cast", to=TensorProto.FLOAT)


def restore(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the casts of `halve`, whose rounded weights are float32 again."""
    restored = onnx.ModelProto()
    restored.CopyFrom(model)
    names = set()
    for tensor in restored.graph.initializer:
        if tensor.name.endswith(ENDING) and tensor.data_type == TensorProto.FLOAT16:
            name = tensor.name.removesuffix(ENDING)
            names.add(name)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
    nodes = [node for node in restored.graph.node if names.isdisjoint(node.output)]
    del restored.graph.node[:]
    restored.graph.node.extend(nodes)
    return restored
