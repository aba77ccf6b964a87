"""The messages of calls that are still coming: while they take too much memory, some of them give way.

Enters: the context of a call that has begun. Leaves: the bytes of its next message, RequestStalled or Overloaded.
Does not know: methods, what a message holds.

gRPC opens the window of a call once its message is read, and keeps what has come for as long as the client likes. A few
clients that never finish their messages would fill the memory of a worker. Nothing tells how much of a message has
come, so the memory of the process decides. While it has grown too much, half of the slow messages end at each look.
Those of the clients with the most come first, so that a few clients cannot end the messages of all others.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import grpc

from serve.errors import Overloaded, RequestStalled, UnreadableRequest

SLOW_S = 0.1
"""Seconds after which a message that is still coming counts as slow; the messages are looked at as often."""
LEAST_SLOW = 4
"""Slow messages that are always let be. gRPC keeps 64 KiB for 16 KiB of a message whose frames lie between others, so
these take at most as much as 16 whole messages."""
LONGEST_S = 60.0
"""Seconds that the message of a unary call may take. 16 MiB in that time are 2.2 Mbit/s."""

Context = grpc.aio.ServicerContext[Any, Any]


class Growth(Protocol):
    """The growth of a process's memory, such as serve.machine.memory.MemoryGrowth."""

    def begin(self) -> None:
        """Growth counts from now on."""

    def is_over(self) -> bool:
        """Whether the process has grown by more than it may."""

    def forgive(self) -> None:
        """Take the growth beyond what is allowed as having another reason."""


class _Coming:
    __slots__ = ("client", "error", "longest_s", "since_s", "task")

    def __init__(
        self, client: Callable[[], str], since_s: float, longest_s: float | None, task: "asyncio.Task[Any]"
    ) -> None:
        self.client = client
        self.since_s = since_s
        self.longest_s = longest_s
        self.task = task
        self.error: Exception | None = None
        """Why it was ended."""

    def end(self, error: Exception) -> None:
        self.error = error
        self.task.cancel()


class Receiver:
    """Reads messages. Used on one event loop."""

    def __init__(self, growth: Growth, clock: Callable[[], float] = time.monotonic) -> None:
        """`growth` tells whether the messages that are coming take too much memory."""
        self._growth = growth
        self._clock = clock
        self._coming: dict[_Coming, None] = {}
        """In the order in which they began."""
        self._is_looking = False

    async def receive(self, context: Context) -> bytes:
        """The one message of a unary call. Raises UnreadableRequest if there is none, RequestStalled and Overloaded."""
        data = await self._receive(context, LONGEST_S)
        if data is None:
            raise UnreadableRequest("wanted one message, got none")
        return data

    async def receive_next(self, context: Context) -> bytes | None:
        """The next message of a stream, or None after the last. It may take any time. Raises Overloaded."""
        return await self._receive(context, None)

    async def _receive(self, context: Context, longest_s: float | None) -> bytes | None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # gRPC runs each call in a task
        coming = _Coming(context.peer, self._clock(), longest_s, task)
        self._coming[coming] = None
        if not self._is_looking:
            self._is_looking = True
            self._growth.begin()
            asyncio.get_running_loop().call_later(SLOW_S, self._look)
        try:
            data = await context.read()
        except asyncio.CancelledError:
            if not coming.error:
                raise
            task.uncancel()
            raise coming.error from None
        finally:
            del self._coming[coming]
        return cast(bytes, data) if data is not grpc.aio.EOF else None

    def _look(self) -> None:
        """End messages that take too long, and those that give way."""
        self._is_looking = bool(self._coming)
        now_s = self._clock()
        slow = _find_slow(self._coming, now_s)
        for coming in slow:
            if coming.longest_s and now_s - coming.since_s > coming.longest_s:
                coming.end(RequestStalled(f"wanted the whole message within {coming.longest_s:.0f} s"))
        slow = [coming for coming in slow if not coming.error]
        if not slow:
            self._growth.begin()
        elif self._growth.is_over():
            self._give_way(slow)
        if self._is_looking:
            asyncio.get_running_loop().call_later(SLOW_S, self._look)

    def _give_way(self, slow: list[_Coming]) -> None:
        if len(slow) <= LEAST_SLOW:
            self._growth.forgive()
            return
        for coming in _choose(slow, len(slow) - max(LEAST_SLOW, len(slow) // 2)):
            coming.end(Overloaded("the messages that are still coming take too much memory; try again later"))


def _find_slow(coming_in_order: Iterable[_Coming], now_s: float) -> list[_Coming]:
    """The messages that are slow and have not been ended, oldest first."""
    slow: list[_Coming] = []
    for coming in coming_in_order:
        if now_s - coming.since_s < SLOW_S:
            break
        if not coming.error:
            slow.append(coming)
    return slow


def _choose(slow: list[_Coming], count: int) -> list[_Coming]:
    """`count` messages: each time the oldest of a client that has the most left."""
    clients: dict[str, list[_Coming]] = {}
    for coming in reversed(slow):
        clients.setdefault(coming.client(), []).append(coming)
    chosen: list[_Coming] = []
    for most in range(max(map(len, clients.values())), 0, -1):
        for own in reversed(clients.values()):
            if len(chosen) < count and len(own) >= most:
                chosen.append(own.pop())
    return chosen
