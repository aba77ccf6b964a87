"""A ModelInferResponse -> the response over REST: JSON, and tensors as bytes behind it where they are wanted so.

Enters: a message, and the form in which each output is wanted. Leaves: a response. Does not know: models, requests.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.responses import Response

from serve.pb import open_inference_pb2 as pb
from serve.web.failures import JsonResponse

HEADER = "Inference-Header-Content-Length"
"""The length of the JSON in a body that has tensors behind it."""
BINARY, ALL_BINARY, SIZE = "binary_data", "binary_data_output", "binary_data_size"
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """How outputs are wanted: as bytes, or in the JSON."""

    is_binary: bool
    """Whether outputs that the request does not name are wanted as bytes."""
    outputs: Mapping[str, bool]


def write_response(reply: pb.ModelInferResponse, wanted: Wanted) -> Response:
    """The response to a request."""
    described: dict[str, Any] = {"model_name": reply.model_name, "model_version": reply.model_version, "outputs": []}
    if reply.id:
        described["id"] = reply.id
    tail: list[bytes] = []
    for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if wanted.outputs.get(tensor.name, wanted.is_binary):
            output["parameters"] = {SIZE: len(raw)}
            tail.append(raw)
        else:
            output["data"] = read_elements(tensor.datatype, raw)
        described["outputs"].append(output)
    if not tail:
        return JsonResponse(described)
    head = json.dumps(described, separators=(",", ":")).encode()
    return Response(b"".join([head, *tail]), headers={HEADER: str(len(head))}, media_type="application/octet-stream")


def read_elements(datatype: str, raw: bytes) -> list[Any]:
    """The elements of raw contents: numbers of FP32, or the texts of BYTES."""
    if datatype != "BYTES":
        numbers: list[Any] = np.frombuffer(raw, "<f4").tolist()
        return numbers
    texts, at = [], 0
    while at < len(raw):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        texts.append(raw[start:at].decode())
    return texts
