"""Streams of messages in both directions: their requests, which end when the server stops, and answers in their order.

Enters: how a message is read, and how one request is answered. Leaves: async iterators of requests and of answers.
Does not know: gRPC, models, what a request asks for.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Requests(Generic[Request]):
    """The requests of one stream, until its caller has no more or `stop` is called."""

    def __init__(self, read: Callable[[], Awaitable[Request | None]]) -> None:
        """`read` gives the next request, or None after the last."""
        self._read = read
        self._reader: asyncio.Task[object] | None = None
        self.is_stopped = False
        """Whether `stop` came before the caller's end."""
        self._has_ended = False

    def __aiter__(self) -> "Requests[Request]":
        return self

    async def __anext__(self) -> Request:
        if self.is_stopped or self._has_ended:
            raise StopAsyncIteration
        self._reader = asyncio.current_task()
        try:
            request = await self._read()
        except asyncio.CancelledError:
            # Cancelled by `stop`, unless the call itself was cancelled as well.
            if not self.is_stopped or not self._reader or self._reader.uncancel():
                raise
            raise StopAsyncIteration from None
        finally:
            self._reader = None
        if request is None:
            self._has_ended = True
            raise StopAsyncIteration
        return request

    def stop(self) -> None:
        """Read no more. A task that waits for a request goes on as if that had been the last."""
        if not self._has_ended:
            self.is_stopped = True
            if self._reader:
                self._reader.cancel()


async def answer_in_order(
    requests: AsyncIterable[Request], answer: Callable[[Request, asyncio.Event], Awaitable[Reply]], window: int
) -> AsyncIterator[Reply]:
    """Answer up to `window` requests of a stream at a time, and yield the answers in the order of the requests.

    `answer` sets the event once it has room to work; no other request is read before. So a full queue and a consumer
    that takes no answers both end the reading. What ends the reading by failing is raised after the answers.
    """
    begun: asyncio.Queue[asyncio.Future[Reply] | None] = asyncio.Queue()  # None is the end
    room = asyncio.Semaphore(window)

    async def begin_each() -> None:
        async for request in requests:
            admitted = asyncio.Event()
            begun.put_nowait(_begin(answer(request, admitted), admitted))
            await admitted.wait()
            await room.acquire()

    reading = asyncio.create_task(begin_each())
    reading.add_done_callback(lambda _: begun.put_nowait(None))
    try:
        while task := await begun.get():
            yield await task
            room.release()
        await reading
    finally:
        _abandon(reading)
        while not begun.empty():
            _abandon(begun.get_nowait())


def _begin(answering: Awaitable[Reply], admitted: asyncio.Event) -> asyncio.Future[Reply]:
    """A task whose end sets the event, too: one that fails needs no room."""
    task = asyncio.ensure_future(answering)
    task.add_done_callback(lambda _: admitted.set())
    return task


def _abandon(task: asyncio.Future[Reply] | None) -> None:
    """End a task that nothing waits for; if it has failed already, that is not worth a line in the log."""
    if task and not task.cancel() and not task.cancelled():
        task.exception()
