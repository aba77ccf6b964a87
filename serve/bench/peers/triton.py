"""A Triton server as a peer: the same images in requests of the Open Inference Protocol (KServe v2).

Enters: a model's name and file, PNG files, an interpreter. Leaves: a running Triton (`pytriton_server.py`), and
serialized requests, of which one has been answered. Does not know: load.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serve.bench.target import process_tree
from serve.client.channel import open_channel
from serve.errors import ConfigError

METHOD = "/inference.GRPCInferenceService/ModelInfer"
SCRIPT = Path(__file__).with_name("pytriton_server.py")
START_TIMEOUT_S = 60
SUM_TOLERANCE = 1e-3
STOP_TIMEOUT_S = 30


@contextmanager
def start_peer(python: str, path: Path, model: str) -> Iterator[str]:
    """Run a Triton with one model file on free ports until the end of the block; its address.

    It is stopped after each measurement, because its processes poll and so take CPU time from the next one. `python` is
    an interpreter with nvidia-pytriton. Triton may still be starting when the block begins.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, str(SCRIPT), str(path), model, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            yield f"127.0.0.1:{port}"
        finally:
            for member in process_tree(process.pid):  # Triton, a child, does not end with its parent
                os.kill(member, signal.SIGKILL)
            process.wait(STOP_TIMEOUT_S)


def make_peer_requests(
    address: str, model: str, encoded: Sequence[bytes], timeout_s: float = START_TIMEOUT_S
) -> list[bytes]:
    """A ModelInferRequest for each PNG file.

    Raises ConfigError if the peer does not answer the first with probabilities within `timeout_s`.
    """
    requests = [make_infer_request(model, image) for image in encoded]
    with open_channel(address) as channel:
        reply = _first_reply(channel.unary_unary(METHOD), requests[0], model, timeout_s)
    raw = _last_field(reply)  # the raw output: float32 [1, K]
    found = np.frombuffer(raw[: len(raw) // 4 * 4], np.float32)
    if not found.size or abs(float(found.sum()) - 1) > SUM_TOLERANCE:
        raise ConfigError(f"--peer: wanted probabilities of its model {model}, got {found[:10]}")
    return requests


def _first_reply(infer: Any, request: bytes, model: str, timeout_s: float) -> bytes:
    """Repeat the call until Triton listens and has loaded the model."""
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            return bytes(infer(request, timeout=timeout_s))
        except grpc.RpcError as error:
            if time.monotonic() > end_s:
                raise ConfigError(f"--peer: wanted an answer of its model {model}, got {error!r}") from error
            time.sleep(0.2)


def make_infer_request(model: str, image: bytes) -> bytes:
    """A serialized ModelInferRequest with one PNG."""
    return make_tensor_request(model, "image", "BYTES", (1, 1), len(image).to_bytes(4, "little") + image)


def make_tensor_request(model: str, name: str, datatype: str, shape: Sequence[int], raw: bytes) -> bytes:
    """A serialized ModelInferRequest with one input, written by hand: the stubs clash with those of tritonclient."""
    sizes = b"".join(map(_varint, shape))
    tensor = _field(1, name.encode()) + _field(2, datatype.encode()) + _field(3, sizes)
    return _field(1, model.encode()) + _field(5, tensor) + _field(7, raw)


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message (protobuf.dev, Encoding)."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _last_field(message: bytes) -> bytes:
    """The contents of the last of a message's fields, all of which are length-delimited; none if it is not whole."""
    at, data = 0, b""
    while at < len(message):
        _, at = _read_varint(message, at)
        size, at = _read_varint(message, at)
        data, at = message[at : at + size], at + size
    return data if at == len(message) else b""


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    number, shift = 0, 0
    while at < len(message):
        number |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 0x80:
            break
    return number, at


def _varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])
