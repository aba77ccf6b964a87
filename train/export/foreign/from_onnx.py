"""An ONNX file made elsewhere -> a `Source`, or what about it cannot be served.

Enters: a path. Leaves: a `Source` that ONNX Runtime runs as it came, or Unconvertible. Does not know: images, labels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message

from serve.model_file.spec import SEAL_KEY
from serve.model_file.whole import LARGEST_FILE
from train.export.foreign.source import (
    Array,
    Source,
    Unconvertible,
    count_parameters,
    describe_value,
    read_constant,
)

DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
"""Sets of operations that ONNX Runtime has itself. The last one is its own."""
LEAST_OPSET = 10
"""The first in which bytes can be scaled by one operation."""


def from_onnx(path: Path) -> Source:
    """Read a file. Raises Unconvertible and OSError."""
    try:
        return _read(path)
    except (ValueError, LookupError, TypeError) as error:  # an operation without inputs, an unknown type or file
        raise Unconvertible(f"{path}: wanted a whole ONNX model, got one that is damaged ({error})") from error


def _read(path: Path) -> Source:
    model = read_graph(path)
    notes = [*tidy(model)]
    require_one_image(model)
    require_known_operations(model)
    session = open_original(model)

    def run(batch: Array) -> dict[str, Array]:
        return dict(zip(names, session.run(names, {images.name: batch}), strict=True))

    images = describe_value(model.graph.input[0])
    outputs = tuple(map(describe_value, model.graph.output))
    names = [each.name for each in outputs]
    maker = " ".join(filter(None, (model.producer_name, model.producer_version))) or "an unnamed program"
    kind = f"an ONNX model by {maker}, opset {find_opset(model)}"
    return Source(kind, model, images, outputs, run, count_parameters(model), ("onnx", "onnxruntime"), tuple(notes))


def read_graph(path: Path) -> onnx.ModelProto:
    """Parse a file and the data beside it. Raises Unconvertible."""
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise Unconvertible(f"{path}: wanted an ONNX model, got bytes that are none") from error
    if not model.graph.node:
        raise Unconvertible(f"{path}: wanted an ONNX model, got bytes that are none, or a model without operations")
    if any(entry.key == SEAL_KEY for entry in model.metadata_props):
        raise Unconvertible(f"{path}: this is a model file of Inkling already; serve it as it is")
    places = sorted(set(find_external_places(model)))
    for place in places:
        inside = (path.parent / place).resolve()
        if not inside.is_relative_to(path.parent.resolve()) or not inside.is_file():
            raise Unconvertible(f"{path}: wanted its external data in a file beside it, the graph names {place!r}")
    size = path.stat().st_size + sum((path.parent / place).stat().st_size for place in places)
    if size > LARGEST_FILE:
        raise Unconvertible(f"{path}: wanted weights of at most {LARGEST_FILE:,} bytes in all, got {size:,}")
    if places:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    if left := sorted(set(find_external_places(model))):  # sparse tensors and defaults of functions are not loaded
        raise Unconvertible(f"{path}: wanted external data of weights and constants alone, others name {left[0]!r}")
    return model


def find_external_places(model: onnx.ModelProto) -> Iterator[str]:
    """The files in which tensors of a model have their data, wherever in it a tensor is."""
    for tensor in walk_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def walk_tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """The tensors in a message of ONNX and in the messages inside of it."""
    for field, value in message.ListFields():
        for each in value if field.is_repeated else [value]:
            if isinstance(each, onnx.TensorProto):
                yield each
            elif isinstance(each, Message):
                yield from walk_tensors(each)


def walk_graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """A model's graph, the graphs inside of its operations, and its functions."""
    open_: list[Any] = [model.graph, *model.functions]
    while open_:
        graph = open_.pop()
        yield graph
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            open_ += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)


def tidy(model: onnx.ModelProto) -> Iterator[str]:
    """Bring a graph into the form of today's exporters, in place: what was done."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)  # before IR version 4, weights were inputs, too
    open_sides(model.graph)
    model.ir_version = max(model.ir_version, 8)
    opsets = {"": 0}
    for entry in model.opset_import:  # skl2onnx may write one twice
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        opsets[domain] = max(opsets.get(domain, 0), entry.version)
    del model.opset_import[:]
    if not opsets[""]:
        opsets[""] = 18
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items())
    if opsets[""] < LEAST_OPSET:
        yield _raise_opset(model, opsets[""])
    yield from _open_maps(model.graph)
    del model.metadata_props[:]
    del model.graph.value_info[:]  # they can be inferred, and may name the batch that is made free


def open_sides(graph: onnx.GraphProto) -> None:
    """Leave sides open that are -1, and those of an input that are 0, in place. Some exporters write open ones so."""
    for values, least in ((graph.input, 1), (graph.output, 0)):
        for side in (side for value in values for side in value.type.tensor_type.shape.dim):
            if side.HasField("dim_value") and side.dim_value < least:
                side.ClearField("dim_value")


def _raise_opset(model: onnx.ModelProto, version: int) -> str:
    try:
        if len(model.opset_import) > 1:
            model.opset_import[0].version = LEAST_OPSET  # classifiers of ai.onnx.ml change nothing with it
        else:
            model.CopyFrom(onnx.version_converter.convert_version(model, 13))
    except Exception as error:  # the converter raises any kind of exception
        raise Unconvertible(
            f"wanted operations of opset {LEAST_OPSET} or newer, got {version}: export it anew"
        ) from error
    return f"operations of opset {version} written as those of opset {find_opset(model)}"


def _open_maps(graph: onnx.GraphProto) -> Iterator[str]:
    """Put the tensor of probabilities in the place of scikit-learn's list of dictionaries, which skl2onnx writes."""
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        value = next((value for value in graph.output if value.name == node.output[0]), None)
        if value is not None:
            graph.node.remove(node)
            place = list(graph.output).index(value)
            shape = [None, _count_keys(node)]
            graph.output[place].CopyFrom(
                onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, shape)
            )
            yield f"output {value.name}: a list of dictionaries opened to the tensor inside"


def _count_keys(node: onnx.NodeProto) -> int:
    return max(len(each.ints) or len(each.strings) for each in node.attribute)


def find_opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operations."""
    return next((entry.version for entry in model.opset_import if entry.domain == ""), 0)


def require_one_image(model: onnx.ModelProto) -> None:
    """Raise Unconvertible unless a graph has one input, which is a tensor."""
    inputs = [describe_value(value) for value in model.graph.input]
    if len(inputs) != 1 or not inputs[0].dtype:
        found = ", ".join(map(str, inputs)) or "none"
        raise Unconvertible(f"wanted a model of one input, the images; found {len(inputs)} inputs: {found}")


def require_known_operations(model: onnx.ModelProto) -> None:
    """Raise Unconvertible for operations that ONNX Runtime lacks, and for loops that nothing bounds."""
    own = {(function.domain, function.name) for function in model.functions}
    for graph in walk_graphs(model):
        for node in graph.node:
            if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
                raise Unconvertible(
                    f"wanted operations of ONNX or ONNX Runtime, found {node.op_type} of {node.domain}: "
                    "export the model without custom operators"
                )
            if node.op_type == "Loop" and not _is_bounded(graph, node):
                raise Unconvertible(
                    f"wanted loops with a constant bound, found the Loop {node.name or node.output[0]!r} without one: "
                    "a request could run for ever; export a model that does not decide how long it computes"
                )


def _is_bounded(graph: Any, loop: onnx.NodeProto) -> bool:
    trips = loop.input[0]
    constants = {tensor.name: tensor for tensor in getattr(graph, "initializer", ())}
    constants |= {node.output[0]: tensor for node in graph.node if (tensor := read_constant(node))}
    if trips not in constants:
        return False
    return int(onnx.numpy_helper.to_array(constants[trips]).reshape(())) < np.iinfo(np.int32).max


def open_original(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of the model as it came. Raises Unconvertible."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a class per fault, without a public base class
        raise Unconvertible(f"ONNX Runtime cannot load the model: {str(error).splitlines()[0]}") from error
