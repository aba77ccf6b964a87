"""A float32 graph and training images -> a graph that computes in 8 bits where that saves time.

Enters: an onnx.ModelProto of `from_keras.convert`, images uint8 [N, H, W, C]. Leaves: another one, in QDQ form.
Does not know: model files, accuracy, Keras.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization

from train.data.datasets import Images, choose_batch_size
from train.export.graph import Links

# Products, and the operations that pass their values on. Elsewhere 8 bits save nothing.
QUANTIZED = ("Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Reshape", "Transpose")

BATCH_DIVISOR = 4  # of a usual batch: while ranges are measured, all activations are kept
RANGE_SHARE = 0.1  # of each batch of images in the moving average of an activation's range


class CalibrationImages(quantization.CalibrationDataReader):
    """Hands training images uint8 [N, H, W, C] to ONNX Runtime in batches, which measures the range of activations."""

    def __init__(self, images: Images, batch: int = 100) -> None:
        batch = min(batch, max(1, choose_batch_size(images) // BATCH_DIVISOR))
        self._batches: Iterator[Images] = iter(np.array_split(images, max(1, len(images) // batch)))

    def get_next(self) -> dict[str, Images] | None:
        """The next batch as input of the session, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def make_int8(model: onnx.ModelProto, calibration: Images) -> onnx.ModelProto:
    """Quantize statically in QDQ form: weights per channel, ranges from calibration images uint8 [N, H, W, C].

    Three kinds of nodes stay float32. Logits and softmax cost little, and probabilities in steps of 1/256 would not sum
    to 1. Convolutions of one channel are slower in 8 bits. The first convolution gains nothing with three channels, and
    has the widest ranges if it whitens. A range is the moving average over batches, so that one outlier does not decide
    it. What each choice gives is in `docs/benchmarks/history.md`.
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
    """Give each node without a name one, in place, because quantization excludes nodes by name."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def find_head(graph: onnx.GraphProto) -> list[str]:
    """The names of the nodes from the last product with weights to the softmax."""
    makers = {output: node for node in graph.node for output in node.output}
    head = [node for node in graph.node if node.op_type == "Softmax"][-1:]
    while head and head[-1].op_type not in ("Gemm", "MatMul") and head[-1].input[0] in makers:
        head.append(makers[head[-1].input[0]])
    return [node.name for node in head]


def find_first(graph: onnx.GraphProto) -> list[str]:
    """The name of the first convolution, which takes the image itself; nodes are in the order of their values."""
    return [node.name for node in graph.node if node.op_type == "Conv"][:1]


def find_grey(graph: onnx.GraphProto) -> list[str]:
    """The names of the convolutions of one channel, and of the MaxPool and Relu after each."""
    links = Links(graph)
    grey = [node for node in graph.node if _is_grey(links, node)]
    for node in grey:  # the list grows in the loop, so that whole chains are found
        grey += [user for kind in ("MaxPool", "Relu") if (user := links.user(node, kind))]
    return [node.name for node in grey]


def pool_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which MaxPool comes before Relu after a convolution of one channel. No value changes.

    Otherwise ONNX Runtime quantizes before the MaxPool, which is slow for bytes in this layout. It does not move the
    quantization across a Relu.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]  # they hold the shapes between the two nodes
    links = Links(changed.graph)
    for conv in changed.graph.node:
        relu = links.user(conv, "Relu") if _is_grey(links, conv) else None
        pool = links.user(relu, "MaxPool")
        if relu and pool:
            _exchange(relu, pool)
    return changed


def _is_grey(links: Links, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution of images with one channel, and not a depthwise convolution."""
    groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
    kernel = links.weights.get(node.input[1]) if node.op_type == "Conv" else None
    return kernel is not None and kernel.dims[1] == 1 and groups in ([], [1])


def _exchange(first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    """Swap two consecutive nodes with one input each, in place."""
    before, between, after = first.input[0], first.output[0], second.output[0]
    was_first = onnx.NodeProto()
    was_first.CopyFrom(first)
    first.CopyFrom(second)
    second.CopyFrom(was_first)
    first.input[0], first.output[0] = before, between
    second.input[0], second.output[0] = between, after
