"""The body of an inference request over REST -> a ModelInferRequest, and the form in which its answer is wanted.

Enters: a body, and the length of its JSON if tensors follow. Leaves: a message, or an HttpError.
Does not know: models, which tensors they take.

Elements are in the JSON, or follow it as bytes (`binary_data_size`). In JSON an element of BYTES is Base64, because a
text of JSON cannot hold the bytes of an image.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from serve.errors import quote
from serve.pb import open_inference_pb2 as pb
from serve.web.failures import invalid
from serve.web.open_inference.plain import read_json
from serve.web.open_inference.responses import ALL_BINARY, BINARY, Wanted

SIZE = "binary_data_size"
MOST_TENSORS = 16
LENGTH_BYTES = 4
"""Before each element of raw BYTES stands its length, little-endian."""
LARGEST_DIMENSION = 2**31
DEEPEST_DATA = 32
"""Levels of lists in `data`. NumPy walks over no deeper array, and a tensor of images has four dimensions."""
REASON = "TENSOR_INVALID"


def read_request(body: bytes, length: int) -> tuple[pb.ModelInferRequest, Wanted]:
    """The request in a body whose first `length` bytes are JSON, and how it is to be answered. Raises HttpError."""
    given, rest = read_json(body[:length]), body[length:]
    asked = pb.ModelInferRequest(id=take(given, "id", str, ""))
    parameters = dict(take(given, "parameters", dict, {}))
    is_binary = parameters.pop(ALL_BINARY, False) is True
    _fill(asked.parameters, parameters)
    for tensor in _take_tensors(given, "inputs"):
        rest = _read_input(tensor, asked, rest)
    if rest:
        raise invalid(f"wanted no bytes after the tensors, got {len(rest):,}", REASON)
    outputs = {}
    for tensor in _take_tensors(given, "outputs"):
        name, own = take(tensor, "name", str, ""), dict(take(tensor, "parameters", dict, {}))
        outputs[name] = own.pop(BINARY, is_binary) is True
        _fill(asked.outputs.add(name=name).parameters, own)
    return asked, Wanted(is_binary, outputs)


def read_length(header: str | None, size: int) -> int:
    """The bytes of JSON in a body of that size; all of them without a header. Raises HttpError."""
    if header is None:
        return size
    if not (header.isascii() and header.isdecimal() and len(header) < 12 and int(header) <= size):
        raise invalid(f"wanted an Inference-Header-Content-Length from 0 to {size}, got {quote(header)}")
    return int(header)


def _take_tensors(given: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = take(given, name, list, [])
    if len(found) > MOST_TENSORS or not all(isinstance(each, dict) for each in found):
        raise invalid(f"{name}: wanted a list of at most {MOST_TENSORS} objects", REASON)
    return found


def take(given: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """The value of a name, if it has its type. Raises HttpError."""
    found = given.get(name, default)
    if not isinstance(found, kind):
        raise invalid(f"{name}: wanted {_NAMES[kind]}, got {quote(repr(found))}", REASON)
    return found


def _fill(parameters: Any, given: Mapping[str, Any]) -> None:
    """Write parameters into those of a message, each into the field of its type."""
    for name, value in given.items():
        field = _FIELDS.get(type(value))
        if not field:
            raise invalid(f"parameter {quote(name)}: wanted a number, a text or a truth value", REASON)
        try:
            setattr(parameters[name], field, value)
        except (ValueError, UnicodeEncodeError):  # an integer of more than 64 bits, or half of a surrogate pair
            raise invalid(f"parameter {quote(name)}: wanted a value of 64 bits, or a text", REASON) from None


def _read_input(tensor: Mapping[str, Any], asked: pb.ModelInferRequest, rest: bytes) -> bytes:
    """Add one input to a request; what is left of the bytes behind the JSON."""
    name, datatype = take(tensor, "name", str, ""), take(tensor, "datatype", str, "")
    shape, parameters = take(tensor, "shape", list, []), dict(take(tensor, "parameters", dict, {}))
    if not all(type(side) is int and 0 <= side < LARGEST_DIMENSION for side in shape):
        raise invalid(f"input {quote(name)}: wanted a shape of whole numbers, got {quote(repr(shape))}", REASON)
    size = parameters.pop(SIZE, None)
    _fill(asked.inputs.add(name=name, datatype=datatype, shape=shape).parameters, parameters)
    if size is None:
        asked.raw_input_contents.append(_encode(name, datatype, tensor.get("data")))
        return rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise invalid(
            f"input {quote(name)}: wanted {quote(repr(size))} bytes after the JSON, got {len(rest):,}", REASON
        )
    if "data" in tensor:
        raise invalid(f"input {quote(name)}: wanted {SIZE} or data, got both", REASON)
    asked.raw_input_contents.append(rest[:size])
    return rest[size:]


def _encode(name: str, datatype: str, data: Any) -> bytes:
    """Elements in JSON, nested or not, as raw contents."""
    place = f"input {quote(name)}: "
    if not isinstance(data, list):
        raise invalid(f"{place}wanted data or {SIZE}, got neither", REASON)
    if datatype == "BYTES":
        return b"".join(_encode_text(place, text) for text in _flatten(place, data))
    if datatype != "UINT8":
        raise invalid(f"{place}wanted the datatype UINT8 or BYTES, got {quote(datatype)}", REASON)
    return _encode_levels(place, data)


def _encode_levels(place: str, data: list[Any]) -> bytes:
    try:
        found = np.array(data, object)  # of another type, each element would be as long as the longest text among them
    except ValueError:
        kinds: set[type] = {list}
    else:
        if found.ndim > DEEPEST_DATA:
            raise invalid(f"{place}wanted lists at most {DEEPEST_DATA} levels deep as data, got more", REASON)
        kinds = set(map(type, found.flat))
    if list in kinds:
        raise invalid(f"{place}wanted lists of the same length in each dimension", REASON)
    try:
        levels = found.astype(np.int64) if kinds == {int} else None
    except OverflowError:
        levels = None
    if levels is None or levels.min() < 0 or levels.max() > 255:
        raise invalid(f"{place}wanted whole numbers from 0 to 255 as data", REASON)
    return levels.astype(np.uint8).tobytes()


def _flatten(place: str, data: list[Any]) -> list[str]:
    """The texts of a list, or of a list of lists of one each."""
    texts = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    if not all(isinstance(text, str) for text in texts):
        raise invalid(f"{place}wanted texts in Base64 as data", REASON)
    return texts


def _encode_text(place: str, text: str) -> bytes:
    try:
        element = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{place}wanted each element of BYTES in Base64, got {quote(text)}", REASON) from None
    return len(element).to_bytes(LENGTH_BYTES, "little") + element


_NAMES: dict[type, str] = {str: "a text", dict: "an object", list: "a list"}
_FIELDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
