"""A path -> the bytes of one whole model file, before anything interprets them.

Enters: a path. Leaves: bytes that match their seal and refer to no other file; metadata. Does not know: ONNX Runtime.
A file is ONNX's protobuf (onnx.proto, IR version 13). This walks through its wire format as far as to find tensors
whose data lie outside (`TensorProto.external_data`): ONNX Runtime would read any file below its working directory.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from serve.errors import CorruptModelFile, ModelFileError
from serve.model_file.spec import check_seal

LARGEST_FILE = 2**31 - 1
"""Bytes. A protobuf message ends there."""
_DEEPEST = 64
"""Graphs inside of graphs."""

# Field numbers of the messages on the way to a tensor, and what kind of message each holds.
_WAY = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_METADATA = 14
"""Of a model: the field of its metadata."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_model_bytes(path: Path, digest: str = "") -> bytes:
    """Read a model file. Raises CorruptModelFile, InvalidMetadata, ModelFileError and OSError.

    With `digest`, the SHA-256 of its bytes in hexadecimal digits, bytes that have another are refused.
    """
    with _open(path) as file:
        data = file.read()
    if digest and (found := hashlib.sha256(data).hexdigest()) != digest:
        raise ModelFileError(
            f"wanted the bytes that the server decided on, SHA-256 {digest[:12]}..., found {found[:12]}...; the file "
            "has changed since"
        )
    check_seal(data)
    if _has_external_data(memoryview(data), "model", 0):
        raise ModelFileError("wanted all weights in the one file, the graph refers to another")
    return data


def measure_digest(path: Path) -> str:
    """The SHA-256 of a model file in hexadecimal digits. Raises ModelFileError and OSError."""
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a model file, by key, without a check of its seal. Raises ModelFileError and OSError."""
    with _open(path) as file:
        message = memoryview(file.read())
    entries = (
        dict(_fields(value)) for field, value in _fields(message) if field == _METADATA and not isinstance(value, int)
    )
    try:
        return {_text(entry[1]): _text(entry[2]) for entry in entries}
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModelFile("wanted metadata of keys and texts, got others") from error


def _text(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise TypeError("wanted a text")
    return bytes(value).decode()


def _open(path: Path) -> BufferedReader:
    # Without waiting for a writer, should it be a FIFO.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError("wanted a file, found something else of that name: a folder, a pipe or a device")
        if status.st_size > LARGEST_FILE:
            raise ModelFileError(f"wanted a file of at most {LARGEST_FILE:,} bytes, got {status.st_size:,}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _has_external_data(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise CorruptModelFile(f"wanted graphs at most {_DEEPEST} deep inside of each other")
    for field, value in _fields(message):
        if kind == "tensor":
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                return True
        elif field in _WAY[kind]:
            if not isinstance(value, memoryview):
                raise CorruptModelFile("wanted an ONNX model, got bytes that are none")
            if _has_external_data(value, _WAY[kind][field], depth + 1):
                return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Every field's number and value; of fixed sizes, the bytes. Raises CorruptModelFile."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise CorruptModelFile("wanted an ONNX model, got bytes that are none")
        if at + length > len(message):
            raise CorruptModelFile("wanted an ONNX model, got one that ends too early")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:  # bits of the longest
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # the mark of the last byte
            return value, at
    raise CorruptModelFile("wanted an ONNX model, got one that ends too early")
