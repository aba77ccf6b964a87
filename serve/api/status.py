"""Exceptions -> gRPC's statuses: the only place that maps them, at the edge.

Enters: what a method raised. Leaves: a canonical code, a sentence, and the details of google.rpc, as a message or as
the trailers of a call. Does not know: requests, models, who raised it.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from serve import errors

logger = logging.getLogger(__name__)

DOMAIN = "inkling"
RETRY_AFTER_MS = 50
STATUS_TRAILER = "grpc-status-details-bin"
INTERNAL_MESSAGE = "the server failed; its log says why"

# Looked up along the class's ancestors, so the nearest one decides.
STATUS_CODES: dict[type[BaseException], grpc.StatusCode] = {
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Expired: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    Exception: grpc.StatusCode.INTERNAL,
}

Context = grpc.aio.ServicerContext[Any, Any]
Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])


class Service(Protocol):
    """What has methods whose errors are answered."""

    def begin_call(self, request: Any) -> None:
        """Raise what a call to any method is refused with."""


def answers_errors(method: Method) -> Method:
    """Turn what a method raises into a status; of the unknown, the client learns only that it happened.

    The status is set, not aborted with: gRPC's context keeps the exception that its `abort` raises, and that keeps
    every frame and the request, until the garbage collector finds the circle. Under overload it took 20 ms at a time.
    Nor does the error itself keep them: some frame has what it raised in a variable.
    """

    @functools.wraps(method)
    async def answer(self: Service, request: Any, context: Context) -> Any:
        try:
            self.begin_call(request)
            return await method(self, request, context)
        except Exception as error:  # the edge: whatever it is, it becomes a status
            _set_status(context, error)
            error.__traceback__ = None
            return None  # beside a status that is not OK gRPC sends an empty message at most

    return answer  # type: ignore[return-value]  # the same signature, by functools.wraps


def to_status(error: Exception) -> Status:
    """An exception as a status: canonical code, sentence, and ErrorInfo."""
    code = next(STATUS_CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS_CODES)
    if isinstance(error, errors.InklingError) and code is not grpc.StatusCode.INTERNAL:
        message, reason = str(error), error.reason
    else:
        logger.error("a call failed", exc_info=error)
        message, reason = INTERNAL_MESSAGE, "INTERNAL"
    return Status(code=code.value[0], message=message, details=[_pack(ErrorInfo(reason=reason, domain=DOMAIN))])


def _set_status(context: Context, error: Exception) -> None:
    if isinstance(error, errors.Overloaded):
        code, message, trailers = grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), _refusal_trailers(str(error))
    else:
        status = to_status(error)
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        message, trailers = status.message, ((STATUS_TRAILER, status.SerializeToString()),)
    context.set_code(code)
    context.set_details(message)
    context.set_trailing_metadata(trailers)


@functools.lru_cache(maxsize=64)
def _refusal_trailers(message: str) -> tuple[tuple[str, str | bytes], ...]:
    """The details of an Overloaded. Stock clients obey the pushback; the RetryInfo is for those that read details."""
    status = to_status(errors.Overloaded(message))
    status.details.append(_pack(RetryInfo(retry_delay=Duration(nanos=RETRY_AFTER_MS * 1_000_000))))
    return (STATUS_TRAILER, status.SerializeToString()), ("grpc-retry-pushback-ms", str(RETRY_AFTER_MS))


def _pack(detail: ErrorInfo | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
