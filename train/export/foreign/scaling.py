"""What becomes of a pixel before the net sees it: said by the user, or known from the graph.

Enters: numbers of a command line, or a graph. Leaves: a `Scaling`, in NumPy and as nodes; or whether a graph scales
bytes itself. Does not know: where a graph came from, labels.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from train.export.foreign.source import Array, read_constant

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS = (0.9 / 255, 1.1 / 127.5)
"""A first product between these makes 0 to 1 or -1 to 1 of bytes."""
_MOVING = {"Cast", "Transpose", "Identity", "Reshape"}


@dataclass(frozen=True, slots=True)
class Scaling:
    """(pixel x scale - mean) / std, with pixels from 0 to 255; mean and std for all channels, or one for each."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def flags(self) -> str:
        """The flags that say it."""
        words = [f"--scale {_spell(self.scale)}"]
        words += [f"--mean {','.join(map(_spell, self.mean))}"] if any(self.mean) else []
        words += [f"--std {','.join(map(_spell, self.std))}"] if set(self.std) != {1.0} else []
        return " ".join(words)

    @property
    def factor(self) -> Array:
        """What a pixel is multiplied with, float32 [1] or [C]."""
        return np.asarray(self.scale / np.array(self.std), np.float32)

    @property
    def shift(self) -> Array:
        """What is added then, float32 [1] or [C]."""
        return np.asarray(-np.array(self.mean) / np.array(self.std), np.float32)

    def apply(self, pixels: Array) -> Array:
        """Pixels uint8 [N, H, W, C], the channels as the model takes them -> float32 [N, H, W, C]."""
        scaled = pixels.astype(np.float64) * self.scale
        return np.asarray((scaled - np.array(self.mean)) / np.array(self.std), np.float32)

    @property
    def levels(self) -> Array:
        """What becomes of each pixel from 0 to 255, float32 [256, 1] or [256, C]."""
        return self.apply(np.arange(256)[:, None])

    def fits(self, dtype: str) -> bool:
        """Whether a type of numbers holds every level. Integers hold whole ones within their bounds."""
        if not np.issubdtype(dtype, np.integer):
            return True
        levels, bounds = self.levels, np.iinfo(dtype)
        return bool(((levels == levels.round()) & (levels >= bounds.min) & (levels <= bounds.max)).all())


COMMON = {
    "0 to 255": Scaling(),
    "0 to 1": Scaling(1 / 255),
    "-1 to 1": Scaling(1 / 127.5, (1.0,)),
    "ImageNet's mean and deviation": Scaling(1 / 255, IMAGENET_MEAN, IMAGENET_STD),
}
"""What most nets were trained on."""


def _spell(number: float) -> str:
    for divisor in (255, 127.5):
        if np.isclose(number, 1 / divisor, rtol=1e-9):
            return f"1/{divisor:g}"
    return f"{number:g}"


def scales_itself(graph: onnx.GraphProto) -> bool:
    """Whether the first arithmetic of a graph shows that it takes pixels from 0 to 255."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    weights |= {node.output[0]: tensor for node in graph.node if (tensor := read_constant(node))}
    name = graph.input[0].name
    for _ in range(len(graph.node)):
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1:
            return False
        node = users[0]
        if node.op_type not in _MOVING:
            constants = [numpy_helper.to_array(weights[each]) for each in node.input if each in weights]
            return len(constants) == 1 and _is_for_bytes(node.op_type, constants[0].astype(np.float64))
        name = node.output[0]
    return False


def _is_for_bytes(operation: str, constant: Array) -> bool:
    match operation:
        case "Mul":
            return bool(((constant > STEPS[0]) & (constant < STEPS[1])).all())
        case "Div":
            return bool(((constant > 1 / STEPS[1]) & (constant < 1 / STEPS[0])).all())
        case "Sub":
            return bool((constant > 2).all())  # a mean of scaled pixels is at most 1
        case "Add":
            return bool((constant < -2).all())
    return False


@dataclass(slots=True)
class Front:
    """The nodes that come before a graph, and their constants."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    value: str = ""
    """The name of the value so far."""

    def add(self, operation: str, *constants: Array, **attributes: Any) -> None:
        """Apply an operation to the value so far."""
        names = []
        for constant in constants:
            names.append(f"inkling/constant_{len(self.weights)}")
            self.weights.append(numpy_helper.from_array(np.asarray(constant), names[-1]))
        result = f"inkling/{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operation, [self.value, *names], [result], **attributes))
        self.value = result
