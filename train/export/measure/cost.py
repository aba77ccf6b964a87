"""A graph -> the multiply-adds and the microseconds of an answer.

Enters: an onnx.ModelProto, the bytes of a model, images. Leaves: numbers. Does not know: model files, accuracy.
"""

import time
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime

from train.data.datasets import Images
from train.export.graph import restore
from train.export.passes.cascade import split
from train.export.passes.second_view import remove_second_view

WARM_RUNS = 3
LEAST_RUNS, LEAST_S = 20, 1.0
"""Runs and seconds of one measurement, at least."""


def count_multiply_adds(model: onnx.ModelProto, unsure_share: float = 1.0) -> int:
    """The multiply-adds of an answer: those of convolutions and products with weights, for one image.

    A second view, or the second net of a cascade, counts for `unsure_share` of the images.
    """
    if parts := split(model):
        return round(count_multiply_adds(parts.first) + unsure_share * count_multiply_adds(parts.second))
    single, below = remove_second_view(restore(model))
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    for output in single.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "M"  # one, too, which is for the inference to find
    shapes = _infer_shapes(single)
    once = sum(_count(node, shapes) for node in single.graph.node)
    return once if below is None else round(once * (1 + unsure_share))


def _infer_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in values}
    return shapes | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _count(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """The multiply-adds of a node: for each result, the weights of its filter or column."""
    if node.op_type == "Conv":
        _, *filter_sides = shapes[node.input[1]]
        return int(np.prod(shapes[node.output[0]]) * np.prod(filter_sides))
    if node.op_type in ("MatMul", "Gemm"):
        rows = int(np.prod(shapes[node.input[0]][:-1]))
        return rows * int(np.prod(shapes[node.input[1]]))
    return 0


def time_image(data: bytes, images: Images, batch: int) -> float:
    """Microseconds of processor time an image, on one core, in batches of images uint8 [N, H, W, C].

    It is the median over runs. Other processes on the machine count only by what they do to the caches.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    batches = _repeat(images, batch)
    for _ in range(WARM_RUNS):
        session.run(None, {"images": next(batches)})
    took_s: list[float] = []
    while len(took_s) < LEAST_RUNS or sum(took_s) < LEAST_S:
        given, started_s = next(batches), time.thread_time()
        session.run(None, {"images": given})
        took_s.append(time.thread_time() - started_s)
    return float(np.median(took_s)) / batch * 1e6


def _repeat(images: Images, batch: int) -> Iterator[Images]:
    """Batches of the images, again and again: answers differ in what they cost if some get a second view."""
    start = 0
    while True:
        yield np.take(images, range(start, start + batch), axis=0, mode="wrap")
        start += batch
