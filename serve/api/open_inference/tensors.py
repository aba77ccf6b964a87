"""The tensors of an inference request -> images, and answers -> the tensors of a response.

Enters: the messages of one request, answers. Leaves: image files or pixels, tensors in a response, or TensorError.
Does not know: which models there are, how a model answers, who called.
"""

import struct
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from serve.api.open_inference.parameters import CLASSIFICATION, read_class_count, refuse_shared_memory
from serve.errors import TensorError, list_some, quote
from serve.images.pixels import Pixels
from serve.inference.answer import Answer
from serve.pb import open_inference_pb2 as pb

INPUT = "images"
OUTPUT = "probabilities"
"""FP32 [N, K]. Clients see the names of the model file's tensors."""
FAMILIARITY = "familiarity"
"""FP32 [N], of models whose file has it."""
LENGTH_BYTES = 4
"""Before each element of raw BYTES stands its length, little-endian."""
LONGEST_SHAPE = 8
"""Dimensions of a wrong shape that its error repeats."""
MOST_OUTPUTS = 16
"""Requested outputs whose names are checked. No model has as many, so a request with more repeats one of them."""

Tensor = pb.ModelInferRequest.InferInputTensor
Shape = tuple[int, int, int]


class Output(NamedTuple):
    """An output that a request asks for: its elements, or that many classes of it."""

    name: str
    class_count: int
    """0 asks for the elements."""


def read_images(request: pb.ModelInferRequest, shape: Shape, max_images: int) -> Sequence[bytes | Pixels]:
    """The images of a request: files for BYTES, uint8 [H, W, C] for UINT8. Raises TensorError."""
    tensor = _find_input(request.inputs)
    refuse_shared_memory(tensor.parameters, f"input {INPUT}: ")
    if tensor.datatype == "BYTES":
        return _read_files(request, tensor, _count_files(tensor.shape, max_images))
    if tensor.datatype == "UINT8":
        return _read_pixels(request, tensor, shape, _count_pixels(tensor.shape, shape, max_images))
    raise TensorError(f"input {INPUT}: wanted the datatype UINT8 or BYTES, got {quote(tensor.datatype)}")


def read_outputs(
    outputs: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor], has_familiarity: bool
) -> Sequence[Output]:
    """The outputs that a request asks for; all of the model's, if it names none. Raises TensorError."""
    known = _BOTH if has_familiarity else _ONE
    if not outputs:
        return known
    names = [output.name for output in islice(outputs, MOST_OUTPUTS)]
    for name in names:
        if name not in (output.name for output in known):
            raise TensorError(f"wanted outputs of {list_some(output.name for output in known)}; got {quote(name)}")
    if len(set(names)) < len(outputs):
        given = list_some((output.name for output in outputs), len(outputs))
        raise TensorError(f"wanted each output at most once, got {given}")
    return [_read_output(output) for output in outputs]


def write_outputs(
    response: pb.ModelInferResponse, answers: Sequence[Answer], outputs: Sequence[Output], labels: Sequence[str]
) -> None:
    """Write the answers into the tensors of a response, as raw contents."""
    for output in outputs:
        tensor = response.outputs.add()
        tensor.name = output.name
        if output.name == FAMILIARITY:
            tensor.datatype = "FP32"
            tensor.shape.append(len(answers))
            shares = [answer.familiarity for answer in answers]
            response.raw_output_contents.append(struct.pack(f"<{len(shares)}f", *shares))
            continue
        if output.class_count:
            count = min(output.class_count, len(labels))
            tensor.datatype, pack = "BYTES", _pack_classes(labels, count)
        else:
            count = len(labels)
            tensor.datatype, pack = "FP32", _pack_probabilities(count)
        tensor.shape.extend((len(answers), count))
        response.raw_output_contents.append(b"".join(map(pack, answers)))


def _read_output(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> Output:
    place = f"output {output.name}: "
    refuse_shared_memory(output.parameters, place)
    count = read_class_count(output.parameters, place)
    if count and output.name == FAMILIARITY:
        raise TensorError(f"{place}wanted no {CLASSIFICATION}, for it has no classes")
    return Output(output.name, count)


def _find_input(inputs: Sequence[Tensor]) -> Tensor:
    if len(inputs) == 1 and inputs[0].name == INPUT:
        return inputs[0]
    names = list_some((quote(tensor.name) for tensor in inputs), len(inputs)) if inputs else "none"
    raise TensorError(f"wanted the one input {INPUT}, got {names}")


def _count_files(shape: Sequence[int], max_images: int) -> int:
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return _check_count(shape[0], max_images)
    raise TensorError(f"input {INPUT}: wanted the shape [N] or [N, 1] of BYTES, got {_show(shape)}")


def _count_pixels(shape: Sequence[int], wanted: Shape, max_images: int) -> int:
    if len(shape) == 4 and tuple(shape[1:]) == wanted:
        return _check_count(shape[0], max_images)
    sides = ", ".join(map(str, wanted))
    raise TensorError(f"input {INPUT}: wanted the shape [N, {sides}] of UINT8, got {_show(shape)}")


def _check_count(count: int, max_images: int) -> int:
    if 0 < count <= max_images:
        return count
    raise TensorError(f"input {INPUT}: wanted 1 to {max_images} images, got {count}")


def _show(shape: Sequence[int]) -> str:
    """A shape for an error's sentence, which has to be short."""
    rest = [f"... {len(shape)} dimensions"] if len(shape) > LONGEST_SHAPE else []
    return f"[{', '.join([*map(str, shape[:LONGEST_SHAPE]), *rest])}]"


def _read_raw(request: pb.ModelInferRequest, tensor: Tensor) -> bytes | None:
    """The raw contents of the one input, or None if it has typed ones."""
    entries, is_typed = len(request.raw_input_contents), tensor.HasField("contents")
    if entries and is_typed:
        raise TensorError(f"input {INPUT}: wanted raw_input_contents or contents, got both")
    if entries > 1:
        raise TensorError(f"wanted 1 entry in raw_input_contents, for the input {INPUT}; got {entries}")
    if not entries and not is_typed:
        raise TensorError(f"input {INPUT}: wanted raw_input_contents or contents, got neither")
    return request.raw_input_contents[0] if entries else None


def _check_typed(tensor: Tensor, wanted: str, count: int) -> None:
    """Raise TensorError unless the typed contents are in the field of their type, as many as the shape says."""
    fields = [field.name for field, _ in tensor.contents.ListFields()]
    if fields != [wanted]:
        found = " and ".join(fields) or "no element"
        raise TensorError(f"input {INPUT}: wanted the contents of {tensor.datatype} in {wanted}, got {found}")
    found_count = len(getattr(tensor.contents, wanted))
    if found_count != count:
        raise TensorError(
            f"input {INPUT}: wanted {count} elements for the shape {_show(tensor.shape)}, got {found_count}"
        )


def _read_pixels(request: pb.ModelInferRequest, tensor: Tensor, shape: Shape, count: int) -> Sequence[Pixels]:
    raw, size = _read_raw(request, tensor), count * shape[0] * shape[1] * shape[2]
    if raw is None:
        _check_typed(tensor, "uint_contents", size)
        levels = np.fromiter(tensor.contents.uint_contents, np.uint32, size)
        if levels.max() > 255:
            place = int((levels > 255).argmax())
            raise TensorError(f"input {INPUT}: wanted levels from 0 to 255, got {levels[place]} at element {place}")
        return list(levels.astype(np.uint8).reshape(count, *shape))
    if len(raw) != size:
        raise TensorError(f"input {INPUT}: wanted {size} bytes for the shape {_show(tensor.shape)}, got {len(raw)}")
    return list(np.frombuffer(raw, np.uint8).reshape(count, *shape))


def _read_files(request: pb.ModelInferRequest, tensor: Tensor, count: int) -> Sequence[bytes]:
    raw = _read_raw(request, tensor)
    if raw is None:
        _check_typed(tensor, "bytes_contents", count)
        return list(tensor.contents.bytes_contents)
    files, at = [], 0
    for index in range(count):
        start = at + LENGTH_BYTES
        if start > len(raw):
            raise TensorError(
                f"input {INPUT}: wanted {LENGTH_BYTES} bytes with the length of element {index}, got {len(raw) - at}"
            )
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise TensorError(
                f"input {INPUT}: wanted {at - start} bytes after the length of element {index}, got {len(raw) - start}"
            )
        files.append(raw[start:at])
    if at != len(raw):
        raise TensorError(f"input {INPUT}: wanted {count} elements in {at} bytes, got {len(raw) - at} bytes after them")
    return files


def _pack_probabilities(count: int) -> Callable[[Answer], bytes]:
    pack = struct.Struct(f"<{count}f").pack
    return lambda answer: pack(*answer.probabilities)


def _pack_classes(labels: Sequence[str], count: int) -> Callable[[Answer], bytes]:
    """A function that writes the first classes of an answer as `value:index:label`."""

    def pack(answer: Answer) -> bytes:
        texts = [f"{answer.probabilities[index]:.6f}:{index}:{labels[index]}" for index in answer.ranking[:count]]
        encoded = [text.encode() for text in texts]
        return b"".join(len(text).to_bytes(LENGTH_BYTES, "little") + text for text in encoded)

    return pack


_ONE = (Output(OUTPUT, 0),)
_BOTH = (*_ONE, Output(FAMILIARITY, 0))
