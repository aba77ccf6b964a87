"""A graph of float32 and training images -> the graph that computes in 8 bits where that saves time.

Enters: an onnx.ModelProto of `export.convert`, images uint8 [N, H, W, C]. Leaves: another, in QDQ form.
Does not know: model files, accuracy, Keras.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization

from train.data.datasets import Images
from train.export.graph import Links

# What computes in 8 bits: the products, and what hands their values on. Elsewhere it saves nothing.
QUANTIZED = ("Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Reshape", "Transpose")

RANGE_SHARE = 0.1
"""How far each batch of images moves the range of an activation to its own."""


class CalibrationImages(quantization.CalibrationDataReader):
    """Training images, a batch at a time, for ONNX Runtime to measure the range of every activation."""

    def __init__(self, images: Images, batch: int = 100) -> None:
        self._batches: Iterator[Images] = iter(np.array_split(images, max(1, len(images) // batch)))

    def get_next(self) -> dict[str, Images] | None:
        """The next batch as the session's input, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def make_int8(model: onnx.ModelProto, calibration: Images) -> onnx.ModelProto:
    """Static quantization in QDQ form, weights per channel, ranges from calibration images uint8 [N, H, W, C].

    The logits and the softmax stay float32: they cost nothing, and probabilities in steps of 1/256 do not sum to 1. So
    do convolutions of one channel, whose kernels in 8 bits take four times as long, and the first one of any: of three
    channels it is no slower in 32 bits, and where it whitens, its ranges are the widest. A range is the mean of those
    of batches, which one outlier does not decide. (Of 1,500 held-out images of `cifar10`, 3 instead of 22 get another
    class than in float32: 6 by the first convolution alone.)
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, ready, small = (str(Path(folder, name)) for name in ("whole.onnx", "ready.onnx", "small.onnx"))
        onnx.save(pool_first(model), whole)
        quantization.quant_pre_process(whole, ready, skip_symbolic_shape=True)
        prepared = onnx.load(ready)
        name_nodes(prepared.graph)
        excluded = [*find_head(prepared.graph), *find_first(prepared.graph), *find_grey(prepared.graph)]
        onnx.save(prepared, ready)
        quantization.quantize_static(
            ready,
            small,
            CalibrationImages(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=excluded,
            extra_options={"CalibMovingAverage": True, "CalibMovingAverageConstant": RANGE_SHARE},
        )
        return onnx.load(small)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give a name to every node without one: quantization leaves nodes out by name, and "" is the name of many."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def find_head(graph: onnx.GraphProto) -> list[str]:
    """The names of the softmax and of what makes its logits: back to the nearest product with weights."""
    makers = {output: node for node in graph.node for output in node.output}
    head = [node for node in graph.node if node.op_type == "Softmax"][-1:]
    while head and head[-1].op_type not in ("Gemm", "MatMul") and head[-1].input[0] in makers:
        head.append(makers[head[-1].input[0]])
    return [node.name for node in head]


def find_first(graph: onnx.GraphProto) -> list[str]:
    """The name of the first convolution, which takes the image itself; nodes are in the order of their values."""
    return [node.name for node in graph.node if node.op_type == "Conv"][:1]


def find_grey(graph: onnx.GraphProto) -> list[str]:
    """The names of the convolutions of one channel, and of the pooling and the Relu behind each."""
    links = Links(graph)
    grey = [node for node in graph.node if _is_grey(links, node)]
    for node in grey:  # grows meanwhile: what follows is followed
        grey += [user for kind in ("MaxPool", "Relu") if (user := links.user(node, kind))]
    return [node.name for node in grey]


def pool_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which a pooling behind a convolution of one channel stands before its Relu; no value changes.

    ONNX Runtime makes values bytes before a pooling where it can, and pools bytes slowly that no convolution in 8 bits
    has laid out for it. It does not do so across a Relu.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]  # shapes that were noted between the two
    links = Links(changed.graph)
    for conv in changed.graph.node:
        relu = links.user(conv, "Relu") if _is_grey(links, conv) else None
        pool = links.user(relu, "MaxPool")
        if relu and pool:
            _exchange(relu, pool)
    return changed


def _is_grey(links: Links, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution that takes one channel; one that takes each channel by itself is another kind."""
    groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
    kernel = links.weights.get(node.input[1]) if node.op_type == "Conv" else None
    return kernel is not None and kernel.dims[1] == 1 and groups in ([], [1])


def _exchange(first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    """Let two nodes of one input, of which the second takes what the first makes, change places."""
    before, between, after = first.input[0], first.output[0], second.output[0]
    was_first = onnx.NodeProto()
    was_first.CopyFrom(first)
    first.CopyFrom(second)
    second.CopyFrom(was_first)
    first.input[0], first.output[0] = before, between
    second.input[0], second.output[0] = between, after
