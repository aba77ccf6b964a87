"""The gate that every RPC of every service passes: it counts, refuses while draining, reads, and sends statuses.

Enters: a service's methods. Leaves: gRPC handlers. Does not know: models, what a method answers.
A method gets its request message, or an iterator of them, and a `Call`. What it raises becomes a status here, so a
request that cannot be parsed is an error like any other. The standard services send their own statuses, and use the
gate's steps one by one (`standard/calls.py`).
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from serve.api.receiving import Receiver
from serve.api.security.tokens import ANYBODY, Caller, TokenFile
from serve.api.status import find_code, refuse
from serve.api.streams import Requests
from serve.api.wire import Context, Handler, find_deadline_s, name_cancellation, parse, write
from serve.errors import Draining, InklingError
from serve.telemetry.calls import CURRENT_CALL, Call, find_request_id
from serve.telemetry.counts import REFUSALS, Counts
from serve.telemetry.tracing import Tracing

LOOK_S = 0.01
QUIET_LOOKS = 5
"""A stop takes its next step when nothing came, or no handler ran, at so many looks in succession, LOOK_S s apart."""


MODEL_FIELDS = {"model", "model_name", "name"}
"""Fields of a request that name a model."""

Unary: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
"""A method that takes one message and answers with one."""

Streaming: TypeAlias = Callable[[Requests[Any], Call], AsyncGenerator[Message, None]]
"""A method that takes a stream of messages and answers with one."""

STOPPING = "the server is stopping and takes no new work"


class CallGate:
    """Makes the handlers of services, and knows how many calls have come. Used on the event loop alone."""

    def __init__(
        self,
        receiver: Receiver,
        counts: Counts | None = None,
        tracing: Tracing | None = None,
        tokens: TokenFile | None = None,
    ) -> None:
        """With `tokens`, only calls that show one are answered."""
        self.counts = counts or Counts()
        self._tracing = tracing
        self._tokens = tokens
        self._receiver = receiver
        self.call_count = 0
        """Calls and requests of streams that have come, rejected ones and those of the standard services included."""
        self.running = 0
        """Calls whose handlers run; those of the standard services, which last as long as their callers like, not."""
        self.is_draining = False
        """Whether every new call is rejected with Draining; the standard services answer all the same."""
        self._streams: set[Requests[Any]] = set()
        self._has_ended_streams = False

    def end_streams(self) -> None:
        """End the streams once they have answered what they have read, and refuse new ones. Other calls go on."""
        self._has_ended_streams = True
        for requests in self._streams:
            requests.stop()

    @property
    def ended_count(self) -> int:
        """Calls that have come and whose handlers no longer run."""
        return self.call_count - self.running

    def unary(self, descriptor: MethodDescriptor, method: Unary) -> Handler:
        """The handler of a method that takes one message and answers with one."""
        read = functools.partial(parse, GetMessageClass(descriptor.input_type))
        name = descriptor.name
        self.counts.declare_method(name, not MODEL_FIELDS.isdisjoint(descriptor.input_type.fields_by_name))

        async def answer(stream: object, context: Context) -> Message:
            call = self.begin(name, context)
            self.running += 1
            try:
                if self.is_draining:
                    raise Draining(STOPPING)
                caller = self.admit(call, context)
                try:
                    # The message is read only once it is known who sends it.
                    reply = await method(read(await self._receiver.receive(context)), call)
                finally:
                    caller.end()
                if id_metadata := call.id_metadata:
                    context.set_trailing_metadata(id_metadata)
                return reply
            except asyncio.CancelledError:
                call.code = name_cancellation(call)
                raise
            except Exception as error:  # the edge: whatever it is, it becomes a status
                refusal = [refuse(context, error)]
                self.note_error(call, error)
                error.__traceback__ = None
            finally:
                self.running -= 1
                self.end(name, call)
            # gRPC's context keeps the exception that ends this call, and that keeps this frame. Without these three the
            # circle would stay until the next garbage collection.
            del stream, context, call
            raise await refusal.pop()

        # As a stream of one message, which looks the same on the wire, so that the message is read here and not before.
        return grpc.stream_unary_rpc_method_handler(
            answer, None, GetMessageClass(descriptor.output_type).SerializeToString
        )

    async def wait_until_quiet(self, longest_s: float) -> None:
        """Until no call has come for a moment: gRPC cancels those that it has, and no handler yet, when it stops."""
        ends_s, seen, quiet = time.monotonic() + longest_s, -1, 0
        while quiet < QUIET_LOOKS and time.monotonic() < ends_s:
            quiet = quiet + 1 if seen == self.call_count else 0
            seen = self.call_count
            await asyncio.sleep(LOOK_S)

    async def wait_until_idle(self, longest_s: float) -> bool:
        """Until no handler has run for a moment: whether that was so within the time."""
        ends_s, quiet = time.monotonic() + longest_s, 0
        while quiet < QUIET_LOOKS and time.monotonic() < ends_s:
            quiet = 0 if self.running else quiet + 1
            await asyncio.sleep(LOOK_S)
        return quiet >= QUIET_LOOKS

    def stream(self, descriptor: MethodDescriptor, method: Streaming) -> Handler:
        """The handler of a method that takes a stream of messages and answers with one.

        Writing waits for the client to read, so a method that waits for its answers to be taken reads no further
        meanwhile. A stream that `end_streams` ends has the status of Draining, not OK: a request without an answer was
        not read.
        """
        read = functools.partial(parse, GetMessageClass(descriptor.input_type))
        serialize = GetMessageClass(descriptor.output_type).SerializeToString
        name = descriptor.name
        self.counts.declare_method(name, True)

        async def answer(_: object, context: Context) -> None:
            call = self.begin(name, context)
            self.running += 1
            requests: Requests[Message] = Requests(functools.partial(self._read, context, read))
            self._streams.add(requests)
            try:
                if self.is_draining or self._has_ended_streams:
                    raise Draining(STOPPING)
                caller = self.admit(call, context)
                try:
                    async with contextlib.aclosing(method(requests, call)) as replies:
                        async for reply in replies:
                            if not await write(context, serialize(reply)):
                                return
                finally:
                    caller.end()
                if not requests.is_stopped:
                    return
                raise Draining("the server is stopping; wanted no request after the last that has an answer")
            except asyncio.CancelledError:
                call.code = name_cancellation(call)
                raise
            except Exception as error:  # as in unary
                refusal = [refuse(context, error)]
                self.note_error(call, error)
                error.__traceback__ = None
            finally:
                self.running -= 1
                self._streams.discard(requests)
                self.end(name, call)
            del requests, context, call
            raise await refusal.pop()

        return grpc.stream_stream_rpc_method_handler(answer)

    def begin(self, name: str, context: Context) -> Call:
        """Count a call that has come, and begin its trace."""
        self.call_count += 1
        metadata: Any = context.invocation_metadata() or ()
        call = Call(find_deadline_s(context), context.peer, find_request_id(metadata))
        CURRENT_CALL.set(call)
        if self._tracing:
            self._tracing.start(call, name, metadata)
        return call

    def admit(self, call: Call, context: Context) -> Caller:
        """The caller, with one more call under way. Raises Unauthenticated and TooManyCalls."""
        caller = self._tokens.find(context.invocation_metadata() or ()) if self._tokens else ANYBODY
        call.caller = caller.name
        caller.begin()
        return caller

    def note_error(self, call: Call, error: Exception) -> None:
        """Give a call the code of its error, and count what was refused."""
        call.code = find_code(error).name
        if isinstance(error, InklingError) and error.reason in REFUSALS:
            self.counts.note_refused(call.served_by[0], error.reason)

    def end(self, name: str, call: Call) -> None:
        """Count a call that has ended, by its code and its duration, and end its trace."""
        self.counts.note_call(name, call.served_by, call.code, (time.perf_counter_ns() - call.start_ns) // 1000)
        if self._tracing:
            self._tracing.end(call)

    async def _read(self, context: Context, read: Callable[[bytes], Message]) -> Message | None:
        """The next message of a stream, or None after the last."""
        data = await self._receiver.receive_next(context)
        if data is None:
            return None
        self.call_count += 1
        return read(data)
