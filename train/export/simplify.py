"""An exported graph -> the same function in operations that ONNX Runtime runs faster.

Enters and leaves: an ONNX graph of float32. Does not know: Keras, metadata. It makes four changes:
- Pixels: Cast and Mul by 1/255 take two passes, and the second one is slow for images of one channel. A single
  DequantizeLinear does both.
- GELU: tf2onnx writes opset 18, which has no Gelu, as five operations that ONNX Runtime does not recognise. Opset 20
  has one.
- A normalisation after max pooling: its scale and shift move into the convolution before the pooling, if the scale is
  positive. Then no values change their layout in between.
- Flattening: tf2onnx computes the new shape in each run, although only the number of images is unknown.
What each change gives is in `docs/benchmarks/history.md`.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper, version_converter

from train.export.graph import Array, Links

GELU_OPSET = 20  # the first with Gelu


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the same answers up to rounding; unchanged if the graph has branches or loops."""
    simple = onnx.ModelProto()
    simple.CopyFrom(model)
    if _has_more_than_nodes(simple.graph):
        return simple
    if any(node.op_type == "Erf" for node in simple.graph.node):
        simple = version_converter.convert_version(simple, GELU_OPSET)
    for erf in [node for node in simple.graph.node if node.op_type == "Erf"]:
        _join_gelu(simple.graph, erf)
    for pool in [node for node in simple.graph.node if node.op_type == "MaxPool"]:
        _fold_norm(simple.graph, pool)
    _fix_shapes(simple)
    _drop_unused(simple.graph)
    for cast in [node for node in simple.graph.node if node.op_type == "Cast"]:
        _join_scaling(simple, cast)
    _drop_unused(simple.graph)
    return simple


def _has_more_than_nodes(graph: onnx.GraphProto) -> bool:
    """Whether values are used or set where `Links` does not look: in branches and loops, or by the caller."""
    branches = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    return branches or bool({value.name for value in graph.input} & {tensor.name for tensor in graph.initializer})


def _join_gelu(graph: onnx.GraphProto, erf: onnx.NodeProto) -> None:
    """Replace 0.5 x (1 + erf(0.7071 x)) around `erf` by one Gelu, for any order of the factors."""
    links = Links(graph)
    scale, sum_ = links.maker(erf.input[0], "Mul"), links.user(erf, "Add")
    product = links.user(sum_, "Mul")
    if not (links.user(scale, "Erf") and scale and sum_ and product):
        return
    half, values = links.maker(_other(product.input, sum_.output[0]), "Mul"), links.value(scale)
    if not (values and half and links.user(half, "Mul") and links.value(half) == values):
        return
    if not (links.is_by(scale, 0.5**0.5) and links.is_by(sum_, 1) and links.is_by(half, 0.5)):
        return
    gelu = helper.make_node("Gelu", [values], [product.output[0]], name=f"{product.output[0]}/gelu")
    _replace(graph, [scale, erf, sum_, half, product], [gelu])


def _fold_norm(graph: onnx.GraphProto, pool: onnx.NodeProto) -> None:
    """Move scale and shift of the channels from after a max pooling into the convolution before it."""
    links = Links(graph)
    conv = links.maker(pool.input[0], "Conv")
    if conv is None or links.user(conv, "MaxPool") is None or not set(conv.input[1:]) <= links.weights.keys():
        return
    kernel, *biases = (numpy_helper.to_array(links.weights[name]) for name in conv.input[1:])
    if kernel.ndim != 4:  # only images: for other data, a number for each channel has another shape
        return
    scale, scales = _find_channels(links, pool, "Mul", len(kernel))
    if scale is not None and scales.min() <= 0:
        return
    shift, shifts = _find_channels(links, scale or pool, "Add", len(kernel))
    norm = [node for node in (scale, shift) if node]
    if not norm:
        return
    folded = {"kernel": kernel * scales[:, None, None, None], "bias": sum(biases) * scales + shifts}
    conv.input[1:] = [_add_weight(graph, f"{conv.output[0]}/{name}", values) for name, values in folded.items()]
    _replace(graph, norm, [])
    for node in graph.node:
        if node.output[0] == pool.output[0]:
            node.output[0] = norm[-1].output[0]


def _find_channels(links: Links, before: onnx.NodeProto, kind: str, count: int) -> tuple[onnx.NodeProto | None, Array]:
    """The next node, if it adds or multiplies numbers float32 [count] to channels, and these; else None and neutral."""
    node = links.user(before, kind)
    weight = links.weight(node) if node else None
    if weight is None or weight.shape not in ((1, count, 1, 1), (count, 1, 1)):
        return None, np.full(count, kind == "Mul", np.float32)
    return node, weight.reshape(count)


def _join_scaling(model: onnx.ModelProto, cast: onnx.NodeProto) -> None:
    """Replace the `cast` of bytes, a product with a number, and a sum with 0, by one DequantizeLinear."""
    links = Links(model.graph)
    product = links.user(cast, "Mul")
    step = links.weight(product) if product else None
    if not product or step is None or not _is_step(step) or not _takes_bytes(model, cast):
        return
    sum_ = links.user(product, "Add")
    old = [cast, product, sum_] if sum_ and links.is_by(sum_, 0) else [cast, product]
    scale = _add_weight(model.graph, f"{product.output[0]}/step", step.reshape(()))
    mover = links.user(old[-1], "Reshape") or links.user(old[-1], "Transpose")
    old += [mover] if mover else []
    _replace(model.graph, old, _scale_last(cast.input[0], mover, scale, old[-1].output[0]))


def _scale_last(pixels: str, mover: onnx.NodeProto | None, scale: str, result: str) -> list[onnx.NodeProto]:
    """The nodes that first move the bytes, if a `mover` comes next, and then scale them. Bytes are cheaper to move."""
    scaling = helper.make_node("DequantizeLinear", [pixels, scale], [result], name=f"{result}/scale")
    if mover is None:
        return [scaling]
    moving = onnx.NodeProto()
    moving.CopyFrom(mover)
    moving.input[0], moving.output[0] = pixels, f"{result}/bytes"
    scaling.input[0] = moving.output[0]
    return [moving, scaling]


def _is_step(weight: Array) -> bool:
    """Whether a weight is a single positive float32, which changes no shape."""
    return weight.dtype == np.float32 and weight.shape in ((), (1,)) and weight.item() > 0


def _takes_bytes(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info)}
    return kinds.get(node.input[0]) == onnx.TensorProto.UINT8


def _fix_shapes(model: onnx.ModelProto) -> None:
    """Give each Reshape to [images, numbers] a constant shape in place of one that is computed."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    lengths = {
        value.name: dimensions[1].dim_value
        for value in (*inferred.value_info, *inferred.output)
        if len(dimensions := value.type.tensor_type.shape.dim) == 2  # images and numbers
    }
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[1] not in weights and lengths.get(node.output[0]):
            shape = np.array([-1, lengths[node.output[0]]], np.int64)
            node.input[1] = _add_weight(model.graph, f"{node.output[0]}/shape", shape)


def _other(pair: Iterable[str], known: str) -> str:
    return next((name for name in pair if name != known), known)


def _add_weight(graph: onnx.GraphProto, name: str, values: npt.NDArray[np.float32 | np.int64]) -> str:
    taken = {tensor.name for tensor in graph.initializer}
    while name in taken:
        name += "+"
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _replace(graph: onnx.GraphProto, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
    """Replace old nodes by new ones, at the position of the last old one."""
    gone = {node.output[0] for node in old}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] == old[-1].output[0]:
            nodes += new
        elif node.output[0] not in gone:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes that no result depends on, and then weights that no node takes."""
    used = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if used & set(node.output):
            kept.insert(0, node)
            used |= set(node.input)
    del graph.node[:]
    graph.node.extend(kept)
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
