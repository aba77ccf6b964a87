"""What went wrong -> an HTTP response: a google.rpc.Status as JSON, or the error of the Open Inference Protocol.

Enters: a canonical code with its sentence, or the error of a gRPC call. Leaves: responses.
Does not know: requests, what was called.
"""

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from starlette.responses import Response

from serve.errors import InklingError

DOMAIN = "inkling"
STATUS_TRAILER = "grpc-status-details-bin"
CLIENT_CLOSED_REQUEST = 499
"""The status of a request whose caller left. It has no name in HTTP; google.rpc.Code maps CANCELLED to it."""
RETRY_AFTER_S = 1
"""Seconds that a busy server asks callers to wait, if it does not say for how long itself."""
INTERNAL_MESSAGE = "the server failed; its log says why"

HTTP_CODES: dict[str, int] = {
    "CANCELLED": CLIENT_CLOSED_REQUEST,
    "UNKNOWN": HTTPStatus.INTERNAL_SERVER_ERROR,
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "ALREADY_EXISTS": HTTPStatus.CONFLICT,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "FAILED_PRECONDITION": HTTPStatus.BAD_REQUEST,
    "ABORTED": HTTPStatus.CONFLICT,
    "OUT_OF_RANGE": HTTPStatus.BAD_REQUEST,
    "UNIMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "INTERNAL": HTTPStatus.INTERNAL_SERVER_ERROR,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
    "DATA_LOSS": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The HTTP status of each canonical code, as google/rpc/code.proto maps them."""


class HttpError(InklingError):
    """A request that fails with a status, and with the HTTP code and headers of its response."""

    def __init__(self, status: Status, http_code: int = 0, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.message)
        self.status = status
        self.http_code = http_code or HTTP_CODES.get(code_pb2.Code.Name(status.code), 500)
        self.headers = {**_find_headers(status, self.http_code), **(headers or {})}


def refuse(
    code: str, reason: str, message: str, http_code: int = 0, headers: Mapping[str, str] | None = None
) -> HttpError:
    """The error of a canonical code, with an ErrorInfo. Without an HTTP code, it is the one that the code maps to."""
    status = Status(code=code_pb2.Code.Value(code), message=message)
    status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN))
    return HttpError(status, http_code, headers)


def invalid(message: str, reason: str = "REQUEST_UNREADABLE") -> HttpError:
    """The error of a request that its caller can correct."""
    return refuse("INVALID_ARGUMENT", reason, message)


def too_large(message: str) -> HttpError:
    """The error of a body that is larger than the limit. Another try would not help, so it is no 429."""
    return refuse("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def from_rpc(error: grpc.aio.AioRpcError, timeout_s: float) -> HttpError:
    """The error of a call: the server's own status, or a sentence of ours: gRPC's own names addresses and sockets."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_TRAILER and isinstance(value, bytes):
            return HttpError(Status.FromString(value))
    code = error.code().name
    if code == "RESOURCE_EXHAUSTED":
        return too_large("wanted a smaller message than the server or this process takes, got a larger one")
    if code == "DEADLINE_EXCEEDED":
        return refuse(code, "EXPIRED", f"the server did not answer within {timeout_s:g} s")
    if code in ("UNAVAILABLE", "CANCELLED"):
        return refuse("UNAVAILABLE", "NO_SERVER", "no server answers now; try again")
    if code in HTTP_CODES and code != "INTERNAL":
        return refuse(code, "GRPC", f"the server ended the call with {code}")
    return refuse("INTERNAL", "INTERNAL", INTERNAL_MESSAGE)


def to_response(error: HttpError, path: str) -> Response:
    """The response of an error: the protocol's own under /v2, else a Status."""
    content = {"error": error.status.message} if is_open_inference(path) else to_plain(error.status)
    return JsonResponse(content, error.http_code, error.headers)


def is_open_inference(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


def to_plain(status: Status) -> dict[str, Any]:
    """The JSON form of a Status. Details of a kind that is not known here are left out."""
    known = Status(code=status.code, message=status.message)
    known.details.extend(detail for detail in status.details if detail.Is(ErrorInfo.DESCRIPTOR) or _is_retry(detail))
    return MessageToDict(known)


class JsonResponse(Response):
    """Values as JSON; texts in other scripts stay readable."""

    media_type = "application/json"

    def __init__(self, content: Any, http_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        super().__init__(text.encode("utf-8", "replace"), http_code, headers)


def _is_retry(detail: Any) -> bool:
    return bool(detail.Is(RetryInfo.DESCRIPTOR))


def _find_headers(status: Status, http_code: int) -> dict[str, str]:
    """What a response of a code has to say in its headers."""
    if http_code == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    if http_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return {"Retry-After": str(_find_retry_s(status))}
    return {}


def _find_retry_s(status: Status) -> int:
    """Whole seconds to wait: those of a RetryInfo, rounded up."""
    info = RetryInfo()
    for detail in status.details:
        if _is_retry(detail) and detail.Unpack(info):
            seconds: float = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
            return max(1, math.ceil(seconds))
    return RETRY_AFTER_S
