"""Exceptions -> gRPC's statuses: the only place that maps them.

Enters: what a method raised. Leaves: a canonical code, a sentence, and the details of google.rpc, as a message or sent
as the end of a call. Does not know: requests, models, who raised it.
"""

import functools
import logging
from collections.abc import Awaitable
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from serve import errors
from serve.telemetry.calls import find_id_metadata, name_current_call

logger = logging.getLogger(__name__)

DOMAIN = "inkling"
RETRY_AFTER_MS = 50
STATUS_TRAILER = "grpc-status-details-bin"
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
NEVER_RETRY = (PUSHBACK_TRAILER, "-1")
"""Keeps a client from sending a request again that fails again, whichever codes its policy retries (gRFC A6)."""
INTERNAL_MESSAGE = "the server failed; its log says why"

STATUS_CODES: dict[type[BaseException], grpc.StatusCode] = {
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestStalled: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.ModelControlOff: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ModelRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyCalls: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Expired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    Exception: grpc.StatusCode.INTERNAL,
}
"""The code of a class and of those below it; the nearest ancestor decides."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Trailers = tuple[tuple[str, str | bytes], ...]


def refuse(context: "grpc.aio.ServicerContext[Any, Any]", error: Exception) -> Awaitable[NoReturn]:
    """End a call with the status of an error, and with its request id if it has one or the log names one.

    It is sent without headers and without a message (Trailers-Only), the only form of a failure that gRPC's clients
    retry (gRFC A6). Awaiting the result raises gRPC's own exception, which must reach gRPC.
    """
    if isinstance(error, errors.Overloaded | errors.TooManyCalls):
        trailers = _busy_trailers(error.reason, str(error)) + find_id_metadata()
        return context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), trailers)
    status = to_status(error)
    trailers = ((STATUS_TRAILER, status.SerializeToString()), *find_id_metadata())
    if isinstance(error, errors.RequestError):
        trailers += (NEVER_RETRY,)
    return context.abort(_CODES[status.code], status.message, trailers)


def find_code(error: Exception) -> grpc.StatusCode:
    """The canonical code of an error: that of its nearest ancestor."""
    return next(STATUS_CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS_CODES)


def name_code(number: Any) -> str:
    """The name of a code that gRPC has as a number, or as what it is; UNKNOWN for none."""
    code = _CODES.get(number, number)
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name


def to_status(error: Exception) -> Status:
    """An exception as a status: canonical code, sentence, and ErrorInfo. An unknown one tells only that it happened."""
    code = find_code(error)
    if isinstance(error, errors.InklingError) and code is not grpc.StatusCode.INTERNAL:
        message, reason = str(error), error.reason
    else:
        logger.error("request %s failed", name_current_call(), exc_info=error)
        message, reason = INTERNAL_MESSAGE, "INTERNAL"
    return _make_status(code, reason, message)


def _make_status(code: grpc.StatusCode, reason: str, message: str) -> Status:
    return Status(code=code.value[0], message=message, details=[_pack(ErrorInfo(reason=reason, domain=DOMAIN))])


@functools.lru_cache(maxsize=64)
def _busy_trailers(reason: str, message: str) -> Trailers:
    """The details of a refusal for now: gRPC's clients obey the pushback, RetryInfo is for those that read details."""
    status = _make_status(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message)
    status.details.append(_pack(RetryInfo(retry_delay=Duration(nanos=RETRY_AFTER_MS * 1_000_000))))
    return (STATUS_TRAILER, status.SerializeToString()), (PUSHBACK_TRAILER, str(RETRY_AFTER_MS))


def _pack(detail: ErrorInfo | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
