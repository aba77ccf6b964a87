"""A server of another make beside ours: the same images as requests of the Open Inference Protocol (KServe v2).

Enters: a model's name, PNG files, the peer's address. Leaves: serialized requests, after a look at one answer.
Does not know: load. The peer has a model of the same name that takes PNG files as the BYTES tensor `image` [N, 1] and
gives `probabilities`; `pytriton_peer.py` starts one.
"""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from serve.errors import ConfigError

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def make_peer_requests(address: str, model: str, encoded: Sequence[bytes]) -> list[bytes]:
    """A ModelInferRequest per PNG file. Raises ConfigError where the peer does not answer one with probabilities."""
    requests = [make_infer_request(model, image) for image in encoded]
    with grpc.insecure_channel(address) as channel:
        infer: Any = channel.unary_unary(METHOD)
        try:
            reply: bytes = infer(requests[0], timeout=30)
        except grpc.RpcError as error:
            raise ConfigError(f"--peer {address}: wanted an answer of its model {model}, got {error}") from error
    last = np.frombuffer(reply[-40:], np.float32)  # the raw output comes last: ten probabilities
    if len(last) != 10 or abs(float(last.sum()) - 1) > 1e-3:  # both benchmarks have ten classes
        raise ConfigError(f"--peer {address}: wanted ten probabilities of its model {model}, got {reply[:100]!r}")
    return requests


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
