"""Nets that others published -> their graphs with random weights, to measure what an answer of them costs here.

Enters: nothing. Leaves: `PUBLISHED`, each with its published accuracy and its source. Does not know: training.
Time and multiply-adds do not depend on the weights. Batch normalisation is folded into the convolutions, as in ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 10


@dataclass(frozen=True)
class Published:
    """A net of the field on CIFAR-10."""

    name: str
    test_accuracy: float
    """As its source has it."""
    source: str
    make: Callable[[], onnx.ModelProto]
    views: int = 1
    """Passes of an answer with that accuracy."""


@dataclass
class _Graph:
    """A graph in the making: nodes one after another."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node; returns the name of its value."""
        name = f"{kind}-{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))  # type: ignore[arg-type]
        return name

    def conv(self, values: str, channels: int, filters: int, kernel: int = 3, **attributes: object) -> str:
        """Add a convolution with biases whose weights keep the size of the values."""
        deviation = (2 / (channels * kernel**2)) ** 0.5
        shape = (filters, channels, kernel, kernel)
        weights = [self.random.normal(0, deviation, shape).astype(np.float32), np.zeros(filters, np.float32)]
        names = [f"weight-{len(self.weights) + number}" for number in range(2)]
        self.weights += [numpy_helper.from_array(each, name) for each, name in zip(weights, names, strict=True)]
        return self.add("Conv", values, *names, kernel_shape=[kernel, kernel], **attributes)

    def finish(self, values: str, channels: int, pool: str) -> onnx.ModelProto:
        """Close with a pool over all positions, logits and the softmax."""
        matrix = self.random.normal(0, 0.1, (channels, CLASSES)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(matrix, "logits"))
        flat = self.add("Flatten", self.add(pool, values))
        self.nodes.append(
            helper.make_node("Softmax", [self.add("MatMul", flat, "logits")], ["probabilities"], "softmax")
        )
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 32, 32, 3])
        probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])
        graph = helper.make_graph(self.nodes, "published", [images], [probabilities], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _start(graph: _Graph) -> str:
    moved = graph.add("Transpose", "images", perm=[0, 3, 1, 2])
    graph.weights.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "step"))
    return graph.add("DequantizeLinear", moved, "step")


def make_resnet(blocks: int) -> onnx.ModelProto:
    """A ResNet for CIFAR-10 of 6 `blocks` + 2 layers (He et al. 2016, section 4.2), with 1 x 1 shortcuts that widen."""
    graph, channels = _Graph(), 16
    values = graph.add("Relu", graph.conv(_start(graph), 3, 16, pads=[1] * 4))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            inner = graph.add("Relu", graph.conv(values, channels, filters, pads=[1] * 4, strides=[stride] * 2))
            inner = graph.conv(inner, filters, filters, pads=[1] * 4)
            short = values
            if stride > 1:
                short = graph.conv(values, channels, filters, kernel=1, strides=[2, 2])
            values, channels = graph.add("Relu", graph.add("Add", inner, short)), filters
    return graph.finish(values, channels, "GlobalAveragePool")


def make_airbench94() -> onnx.ModelProto:
    """The net of airbench94 (Jordan 2024): a whitening layer, and three blocks of two convolutions, 64, 256 and 256."""
    graph, channels = _Graph(), 24
    values = graph.add("Gelu", graph.conv(_start(graph), 3, 24, kernel=2))
    for filters in (64, 256, 256):
        values = graph.conv(values, channels, filters, pads=[1] * 4)
        values = graph.add("Gelu", graph.add("MaxPool", values, kernel_shape=[2, 2], strides=[2, 2]))
        values, channels = graph.add("Gelu", graph.conv(values, filters, filters, pads=[1] * 4)), filters
    return graph.finish(values, channels, "GlobalMaxPool")


_ZOO = "github.com/chenyaofo/pytorch-cifar-models"
PUBLISHED = (
    Published("ResNet-20", 0.926, _ZOO, lambda: make_resnet(3)),
    Published("ResNet-56", 0.9437, _ZOO, lambda: make_resnet(9)),
    Published("airbench94", 0.9401, "github.com/KellerJordan/cifar10-airbench", make_airbench94, views=6),
)
