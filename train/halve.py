"""A graph -> the same graph with its large weights kept in 16 bits: half the file, float32 arithmetic as before.

Enters: an ONNX graph whose weights are float32. Leaves: one whose weights are float16 initialisers, each made float32
by a Cast, which ONNX Runtime does once, when it loads the file. Does not know: Keras, metadata, what is lost by it.
Such rounding moves a weight by 1 in 2,048 at most, or by 3e-8 where it is nearly 0. `train.variants` makes files that
also compute in fewer bits.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST_SIZE = 4096
"""Numbers of a tensor below which there is nothing to save."""
ENDING = ".float16"


def halve(model: onnx.ModelProto, least_size: int = LEAST_SIZE) -> onnx.ModelProto:
    """A copy with every float32 initialiser of `least_size` or more in float16, under its name and ENDING.

    Raises ValueError for a weight that float16 has no number for.
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
    """Round a tensor in place, and give the node that makes it float32 again under the name that it had."""
    name, weights = tensor.name, numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        rounded = weights.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ValueError(f"{name} has a weight of {np.abs(weights).max():.3g}: float16 ends at 65504")
    tensor.CopyFrom(numpy_helper.from_array(rounded, name + ENDING))
    return helper.make_node("Cast", [name + ENDING], [name], name=name + "/cast", to=TensorProto.FLOAT)


def restore(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the weights that `halve` rounded in float32 again, rounded as they are, and without its casts."""
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
