"""The messages of calls that are still coming: their number is bounded, and slow ones give way.

Enters: the context of a call that has begun. Leaves: the bytes of its one message, or RequestStalled.
Does not know: methods, what a message holds.

gRPC opens the window of a call once its message is read, and keeps what has come for as long as the client likes. A few
clients that never finish their messages would fill the memory of a worker. A message that is slow to come is counted
from then on: a connection may have a few such, a process some more, and each a minute. If a process has too many, those
give way whose connections have the most, so that a few connections cannot take all places.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from serve.errors import RequestStalled, UnreadableRequest

SLOW_S = 0.1
"""Seconds after which a message that is still coming counts as slow; the messages are looked at as often."""
MOST_SLOW_OF_CLIENT = 4
MOST_SLOW = 16
LONGEST_S = 60.0
"""Seconds that a message may take. 16 MiB in that time are 2.2 Mbit/s."""

Context = grpc.aio.ServicerContext[Any, Any]


class _Coming:
    __slots__ = ("client", "is_stalled", "since_s", "task")

    def __init__(self, client: Callable[[], str], since_s: float, task: "asyncio.Task[Any]") -> None:
        self.client = client
        self.since_s = since_s
        self.task = task
        self.is_stalled = False


class Receiver:
    """Reads messages. Used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._coming: dict[_Coming, None] = {}
        """In the order in which they began."""
        self._is_looking = False

    async def receive(self, context: Context) -> bytes:
        """The one message of a call. Raises RequestStalled, and UnreadableRequest if there is none."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101  # gRPC runs each call in a task
        coming = _Coming(context.peer, self._clock(), task)
        self._coming[coming] = None
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(SLOW_S, self._look)
        try:
            data = await context.read()
        except asyncio.CancelledError:
            if not coming.is_stalled:
                raise
            task.uncancel()
            raise RequestStalled(
                f"wanted the whole message within {LONGEST_S:.0f} s, and at most {MOST_SLOW_OF_CLIENT} slow ones at a "
                "time on a connection"
            ) from None
        finally:
            del self._coming[coming]
        if not isinstance(data, bytes):
            raise UnreadableRequest("wanted one message, got none")
        return data

    def _look(self) -> None:
        """End what stalls: too long, or too many of one connection or of the process."""
        self._is_looking = bool(self._coming)
        for coming in _find_stalled(self._coming, self._clock()):
            coming.is_stalled = True
            coming.task.cancel()
        if self._is_looking:
            asyncio.get_running_loop().call_later(SLOW_S, self._look)


def _find_stalled(coming_in_order: Iterable[_Coming], now_s: float) -> list[_Coming]:
    """The messages to end: those that take too long, those beyond a client's few, and then those beyond all places."""
    slow: dict[str, list[_Coming]] = {}
    stalled: list[_Coming] = []
    for coming in coming_in_order:
        if now_s - coming.since_s < SLOW_S:
            break
        own = slow.setdefault(coming.client(), [])
        is_over = len(own) >= MOST_SLOW_OF_CLIENT or now_s - coming.since_s > LONGEST_S
        if not coming.is_stalled:  # else it is ending
            (stalled if is_over else own).append(coming)
    excess = sum(map(len, slow.values())) - MOST_SLOW
    for most in range(MOST_SLOW_OF_CLIENT, 0, -1):
        for own in slow.values():
            if excess > 0 and len(own) >= most:
                stalled.append(own.pop(0))
                excess -= 1
    return stalled
