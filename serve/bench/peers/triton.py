"""A server of another make beside ours: the same images as requests of the Open Inference Protocol (KServe v2).

Enters: a model's name, PNG files, an interpreter. Leaves: a running Triton (`pytriton_peer.py`), serialized requests
after a look at one answer. Does not know: load.
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
START_S = 60
STOP_S = 30


@contextmanager
def start_peer(python: str, path: Path, model: str) -> Iterator[str]:
    """A Triton with one model file, on free ports, until the end of the block; its address.

    Not longer: its processes poll, and take from whatever is measured beside them. `python` is an interpreter that
    has nvidia-pytriton. Raises ConfigError where it does not serve within a minute.
    """
    script = Path(__file__).with_name("pytriton_peer.py")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, str(script), str(path), model, str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            yield f"127.0.0.1:{port}"
        finally:
            for member in process_tree(process.pid):  # Triton is a child that does not follow its parent
                os.kill(member, signal.SIGKILL)
            process.wait(STOP_S)


def make_peer_requests(address: str, model: str, encoded: Sequence[bytes]) -> list[bytes]:
    """A ModelInferRequest per PNG file. Raises ConfigError where the peer does not answer one with probabilities."""
    requests = [make_infer_request(model, image) for image in encoded]
    with open_channel(address) as channel:
        reply = _first_reply(channel.unary_unary(METHOD), requests[0], model)
    last = np.frombuffer(reply[-40:], np.float32)  # the raw output comes last: ten probabilities
    if len(last) != 10 or abs(float(last.sum()) - 1) > 1e-3:  # both benchmarks have ten classes
        raise ConfigError(f"--peer: wanted ten probabilities of its model {model}, got {reply[:100]!r}")
    return requests


def _first_reply(infer: Any, request: bytes, model: str) -> bytes:
    """It takes some seconds until Triton listens, and some more until it knows its model."""
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            return bytes(infer(request, timeout=START_S))
        except grpc.RpcError as error:
            if time.monotonic() > give_up_s:
                raise ConfigError(f"--peer: wanted an answer of its model {model}, got {error!r}") from error
            time.sleep(0.2)


def make_infer_request(model: str, image: bytes) -> bytes:
    """Three fields of the message, by hand: the protocol's own files are not needed for more."""
    one = b"\x01"
    tensor = _field(1, b"image") + _field(2, b"BYTES") + _field(3, one + one)
    element = len(image).to_bytes(4, "little") + image
    return _field(1, model.encode()) + _field(5, tensor) + _field(7, element)


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message (protobuf.dev, Encoding)."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])
