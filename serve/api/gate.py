"""The gate that every RPC of every service passes: it counts, refuses while draining, parses, and sends statuses.

Enters: a service's methods. Leaves: gRPC handlers. Does not know: models, what a method answers.
A method gets its request message and a `Call`. What it raises becomes a status here, so a request that cannot be parsed
is an error like any other.
"""

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serve.api.status import find_code, name_code, refuse
from serve.errors import Draining, InklingError, UnreadableRequest
from serve.telemetry.calls import CURRENT_CALL, Call, find_request_id
from serve.telemetry.counts import REFUSALS, Counts
from serve.telemetry.tracing import Tracing

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Request = TypeVar("Request", bound=Message)

Unary: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
"""A method that takes one message and answers with one."""

MODEL_FIELDS = {"model", "model_name", "name"}
"""Fields of a request that name a model."""


class CallGate:
    """Makes the handlers of services, and knows how many calls have come. Used on the event loop alone."""

    def __init__(self, counts: Counts | None = None, tracing: Tracing | None = None) -> None:
        self.call_count = 0
        """Calls that have come, rejected ones and those of the standard services included."""
        self.is_draining = False
        """Whether every new call is rejected with Draining; the standard services answer all the same."""
        self._counts = counts or Counts()
        self._tracing = tracing

    def unary(self, descriptor: MethodDescriptor, method: Unary) -> Handler:
        """The handler of a method that takes one message and answers with one."""
        parse = functools.partial(_parse, GetMessageClass(descriptor.input_type))
        name = descriptor.name
        self._counts.declare_method(name, not MODEL_FIELDS.isdisjoint(descriptor.input_type.fields_by_name))

        async def answer(data: bytes, context: Context) -> Message:
            call = self._begin(name, context)
            try:
                if self.is_draining:
                    raise Draining("the server is stopping and takes no new work")
                reply = await method(parse(data), call)
                if id_metadata := call.id_metadata:
                    context.set_trailing_metadata(id_metadata)
                return reply
            except asyncio.CancelledError:
                call.code = _name_cancellation(call)
                raise
            except Exception as error:  # the edge: whatever it is, it becomes a status
                refusal = [refuse(context, error, call)]
                self._note_error(call, error)
                error.__traceback__ = None
            finally:
                self._end(name, call)
            # gRPC's context keeps the exception that ends this call, and that keeps this frame. Without these two the
            # circle would hold the request until the next garbage collection.
            del data, context
            raise await refusal.pop()

        return grpc.unary_unary_rpc_method_handler(
            answer, None, GetMessageClass(descriptor.output_type).SerializeToString
        )

    def standard(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The handlers of a standard service, whose calls are counted and answered while draining, too."""
        return {name: self._count(name, handler) for name, handler in handlers.items()}

    def _count(self, name: str, handler: Handler) -> Handler:
        kind = next(kind for kind in _KINDS if getattr(handler, kind))
        method: Any = getattr(handler, kind)
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        self._counts.declare_method(name, False)

        async def answer(request: Any, context: Context) -> Any:
            with self._measure(name, context):
                return await method(request, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._measure(name, context):
                async for reply in method(request, context):
                    yield reply

        counted = stream if inspect.isasyncgenfunction(method) else answer
        made: Handler = make(counted, handler.request_deserializer, handler.response_serializer)
        return made

    @contextmanager
    def _measure(self, name: str, context: Context) -> Iterator[None]:
        """Count a call of a standard service, which sends its own statuses."""
        call = self._begin(name, context)
        try:
            yield
        except Exception:
            call.code = name_code(context.code())
            raise
        except BaseException:  # cancelled, or a stream that is not read to its end
            call.code = _name_cancellation(call)
            raise
        finally:
            self._end(name, call)

    def _begin(self, name: str, context: Context) -> Call:
        self.call_count += 1
        metadata: Any = context.invocation_metadata() or ()
        call = Call(_deadline_s(context), find_request_id(metadata))
        CURRENT_CALL.set(call)
        if self._tracing:
            self._tracing.start(call, name, metadata)
        return call

    def _note_error(self, call: Call, error: Exception) -> None:
        call.code = find_code(error).name
        if isinstance(error, InklingError) and error.reason in REFUSALS:
            self._counts.note_refused(call.served_by[0], error.reason)

    def _end(self, name: str, call: Call) -> None:
        self._counts.note_call(name, call.served_by, call.code, (time.perf_counter_ns() - call.start_ns) // 1000)
        if self._tracing:
            self._tracing.end(call)


_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def _parse(kind: type[Request], data: bytes) -> Request:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UnreadableRequest(
            f"wanted the message {kind.DESCRIPTOR.full_name}, got {len(data)} bytes that are none"
        ) from None


def _deadline_s(context: Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s


def _name_cancellation(call: Call) -> str:
    """GRPC cancels a call whose caller leaves, and one whose deadline passes."""
    return "DEADLINE_EXCEEDED" if call.is_late else "CANCELLED"
