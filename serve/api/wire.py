"""What the gate needs of gRPC: types, messages from bytes, deadlines, and how a call ended.

Enters: gRPC's context of a call, bytes. Leaves: messages, times, names of codes. Does not know: services, statuses.
"""

import time
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from serve.errors import UnreadableRequest
from serve.telemetry.calls import Call

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Request = TypeVar("Request", bound=Message)


def parse(kind: type[Request], data: bytes) -> Request:
    """A message from its bytes. Raises UnreadableRequest."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UnreadableRequest(
            f"wanted the message {kind.DESCRIPTOR.full_name}, got {len(data)} bytes that are none"
        ) from None


async def write(context: Context, data: bytes) -> bool:
    """Send a message of a stream; False if the caller has left, which is no failure."""
    try:
        await context.write(data)
    except Exception:  # gRPC has no public name for what it raises then, and bytes can fail in no other way
        return False
    return True


def find_deadline_s(context: Context) -> float | None:
    """A call's deadline on the clock of `time.monotonic`, or None."""
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s


def name_cancellation(call: Call) -> str:
    """GRPC cancels a call whose caller leaves, and a call whose deadline passes."""
    return "DEADLINE_EXCEEDED" if call.is_late else "CANCELLED"
