"""The gate that every RPC of every service passes: it counts, refuses while draining, reads, and sends statuses.

Enters: a service's methods. Leaves: gRPC handlers. Does not know: models, what a method answers.
A method gets its request message and a `Call`. What it raises becomes a status here, so a request that cannot be parsed
is an error like any other.
"""

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serve.api.receiving import Receiver
from serve.api.status import refuse
from serve.errors import Draining, UnreadableRequest

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Request = TypeVar("Request", bound=Message)


LOOK_S = 0.01
QUIET_LOOKS = 5
"""A stop takes its next step when no handler ran at so many looks in succession, LOOK_S seconds apart."""


class Call(NamedTuple):
    """What a method may know of its call beside the request."""

    deadline_s: float | None
    """On the clock of `time.monotonic`; None without a deadline."""
    client: Callable[[], str]
    """The address of the connection that it came over."""


Unary: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
"""A method that takes one message and answers with one."""


class CallGate:
    """Makes the handlers of services, and knows how many calls have come. Used on the event loop alone."""

    def __init__(self) -> None:
        self._receiver = Receiver()
        self.call_count = 0
        """Calls that have come, rejected ones and those of the standard services included."""
        self.running = 0
        """Calls whose handlers run; those of the standard services, which last as long as their callers like, not."""
        self.is_draining = False
        """Whether every new call is rejected with Draining; the standard services answer all the same."""

    @property
    def ended_count(self) -> int:
        """Calls that have come and whose handlers no longer run."""
        return self.call_count - self.running

    def unary(self, descriptor: MethodDescriptor, method: Unary) -> Handler:
        """The handler of a method that takes one message and answers with one."""
        read = functools.partial(parse, GetMessageClass(descriptor.input_type))

        async def answer(stream: object, context: Context) -> Message:
            self.call_count += 1
            self.running += 1
            try:
                if self.is_draining:
                    raise Draining("the server is stopping and takes no new work")
                return await method(
                    read(await self._receiver.receive(context)), Call(_deadline_s(context), context.peer)
                )
            except Exception as error:  # the edge: whatever it is, it becomes a status
                refusal = [refuse(context, error)]
                error.__traceback__ = None
            finally:
                self.running -= 1
            # gRPC's context keeps the exception that ends this call, and that keeps this frame. Without these two the
            # circle would stay until the next garbage collection.
            del stream, context
            raise await refusal.pop()

        # As a stream of one message, which the wire does not tell from one: so it is read here, and not before.
        return grpc.stream_unary_rpc_method_handler(
            answer, None, GetMessageClass(descriptor.output_type).SerializeToString
        )

    async def wait_until_idle(self, longest_s: float) -> bool:
        """Until no handler has run for a moment: whether that was so within the time."""
        ends_s, quiet = time.monotonic() + longest_s, 0
        while quiet < QUIET_LOOKS and time.monotonic() < ends_s:
            quiet = 0 if self.running else quiet + 1
            await asyncio.sleep(LOOK_S)
        return quiet >= QUIET_LOOKS

    def standard(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The handlers of a standard service, whose calls are counted and answered while draining, too."""
        return {name: self._count(handler) for name, handler in handlers.items()}

    def _count(self, handler: Handler) -> Handler:
        kind = next(kind for kind in _KINDS if getattr(handler, kind))
        method: Any = getattr(handler, kind)
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")

        async def answer(request: Any, context: Context) -> Any:
            self.call_count += 1
            return await method(request, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            self.call_count += 1
            async for reply in method(request, context):
                yield reply

        counted = stream if inspect.isasyncgenfunction(method) else answer
        made: Handler = make(counted, handler.request_deserializer, handler.response_serializer)
        return made


_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def parse(kind: type[Request], data: bytes) -> Request:
    """A message from its bytes. Raises UnreadableRequest."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UnreadableRequest(
            f"wanted the message {kind.DESCRIPTOR.full_name}, got {len(data)} bytes that are none"
        ) from None


def _deadline_s(context: Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
