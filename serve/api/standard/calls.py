"""The calls of the standard services, at the gate: counted, asked for a token, and answered while the server drains.

Enters: the handlers of a standard service, which read their own messages and send their own statuses. Leaves: handlers
that do the same and count. Does not know: models, which services there are.
"""

import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from serve.api.gate import CallGate
from serve.api.security.tokens import ANYBODY, Caller
from serve.api.status import name_code, refuse
from serve.api.wire import Context, Handler, name_cancellation, parse
from serve.errors import InklingError
from serve.telemetry.calls import Call

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def guard(gate: CallGate, handlers: Mapping[str, Handler], *, is_open: bool = False) -> dict[str, Handler]:
    """The handlers of a standard service, whose calls are counted and answered while draining, too.

    An open one is answered without a token: balancers and probes have none.
    """
    return {name: _guard(gate, name, handler, is_open) for name, handler in handlers.items()}


async def read(kind: Any, data: bytes, context: Context) -> Any:
    """A message, or the end of the call with what was wanted."""
    try:
        return parse(kind, data)
    except InklingError as error:
        await refuse(context, error)


def _guard(gate: CallGate, name: str, handler: Handler, is_open: bool) -> Handler:
    gate.counts.declare_method(name, False)
    kind = next(kind for kind in _KINDS if getattr(handler, kind))
    method: Any = getattr(handler, kind)
    make: Any = getattr(grpc, f"{kind}_rpc_method_handler")

    async def answer(request: Any, context: Context) -> Any:
        with _count(gate, name, context) as call:
            caller = ANYBODY if is_open else await _admit_or_refuse(gate, call, context)
            try:
                return await method(request, context)
            finally:
                caller.end()

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        with _count(gate, name, context) as call:
            caller = ANYBODY if is_open else await _admit_or_refuse(gate, call, context)
            try:
                async for reply in method(request, context):
                    yield reply
            finally:
                caller.end()

    counted = stream if inspect.isasyncgenfunction(method) else answer
    made: Handler = make(counted, handler.request_deserializer, handler.response_serializer)
    return made


async def _admit_or_refuse(gate: CallGate, call: Call, context: Context) -> Caller:
    """The caller, as at the gate; a call that is refused ends here with its status."""
    try:
        return gate.admit(call, context)
    except InklingError as error:
        gate.note_error(call, error)
        await refuse(context, error)


@contextmanager
def _count(gate: CallGate, name: str, context: Context) -> Iterator[Call]:
    """Count a call from its begin to its end, with the code that its own status has."""
    call = gate.begin(name, context)
    try:
        yield call
    except Exception:
        call.code = name_code(context.code())
        raise
    except BaseException:  # cancelled, or a stream that is not read to its end
        call.code = name_cancellation(call)
        raise
    finally:
        gate.end(name, call)
