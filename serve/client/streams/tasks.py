"""One stream for the client for asyncio: images -> an asynchronous iterator of their outcomes.

Enters: images, and a function that opens a stream. Leaves: outcomes, as they are ready. Does not know: channels.
One task reads the images, another runs the streams. So a caller that takes no outcomes ends the reading, and images
that take their time hold up no answer.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, TypeAlias

import grpc

from serve.client.streams.unanswered import WINDOW, Outcome, Unanswered, no_answer
from serve.errors import CallError

OpenStream: TypeAlias = Callable[[], Any]
"""To gRPC's call, which requests are written to."""
Explain: TypeAlias = Callable[[Any], Coroutine[Any, Any, CallError]]
"""From gRPC's error to ours."""

WRITE_FAILED = "Internal error from Core"
"""What grpc.aio says of a call that ended while a request was written to it. Its status is lost then."""
LISTEN_S = 0.3
"""Seconds before the first request of a stream that follows a failed one: a refusal comes then, with its status."""


async def stream_in_tasks(
    images: Iterable[bytes] | AsyncIterable[bytes],
    unanswered: Unanswered,
    open_stream: OpenStream,
    explain: Explain,
    timeout_s: float,
) -> AsyncIterator[Outcome]:
    """The outcome of each image, as it is ready. Raises CallError, and what reading the images raises."""
    stream = _Stream(unanswered, open_stream, explain)
    tasks = [asyncio.create_task(stream.read(images)), asyncio.create_task(stream.run())]
    try:
        while (outcome := await stream.take(timeout_s)) is not None:
            yield outcome
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Stream:
    """What the tasks of one stream share."""

    def __init__(self, unanswered: Unanswered, open_stream: OpenStream, explain: Explain) -> None:
        self._unanswered = unanswered
        self._open = open_stream
        self._explain = explain
        self._changed = asyncio.Event()
        """Set at a change, and then another takes its place."""
        self._slots = asyncio.Semaphore(WINDOW)
        self._outcomes: asyncio.Queue[Outcome | Exception | None] = asyncio.Queue()
        self._problem: Exception | None = None
        """What ended the reading of the images."""
        self._failure: grpc.aio.AioRpcError | None = None
        """The last end of a stream whose status is known."""

    async def read(self, images: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        """Read images, as there is room for them."""
        try:
            async for image in images if isinstance(images, AsyncIterable) else _take_turns(images):
                await self._slots.acquire()
                if outcome := self._unanswered.add(image):
                    self._outcomes.put_nowait(outcome)
                self._announce()
        except Exception as error:  # the caller's own: it comes after the outcomes of the images before
            self._problem = error
        self._unanswered.has_all = True
        self._announce()

    async def run(self) -> None:
        """Run one stream after another until every image has its outcome."""
        try:
            while not self._unanswered.is_done:
                await self._run_one()
            self._outcomes.put_nowait(self._problem)
        except Exception as error:
            self._outcomes.put_nowait(error)

    async def take(self, timeout_s: float) -> Outcome | None:
        """The next outcome; None after the last. Raises what ended the stream."""
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    outcome = await self._outcomes.get()
            except TimeoutError:
                if self._unanswered.is_late(timeout_s):
                    raise no_answer(timeout_s) from None
                continue
            if isinstance(outcome, Exception):
                raise outcome
            self._slots.release()
            return outcome

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run_one(self) -> None:
        """Run one stream to its end, and pause if it is to be opened again. Raises CallError."""
        call = self._open()
        sending = asyncio.create_task(self._send(call))
        try:
            async for reply in call:
                if outcome := self._unanswered.resolve(reply):
                    self._outcomes.put_nowait(outcome)
        except grpc.aio.AioRpcError as error:
            if not self._unanswered.is_done:
                await self._pause(error)
            return
        finally:
            sending.cancel()
            call.cancel()
            await asyncio.gather(sending, return_exceptions=True)  # it may have met the end of the stream, too
        if not self._unanswered.is_done:
            raise self._unanswered.say_ended()

    async def _pause(self, error: grpc.aio.AioRpcError) -> None:
        """Until the stream is to be opened again. Raises CallError if that would be in vain."""
        is_known = error.details() != WRITE_FAILED
        self._failure = error if is_known else self._failure
        # What made a write fail is not known; if it is no reason to try again, the next stream ends with it, too.
        code = error.code().name if is_known else "UNAVAILABLE"
        pause_s = self._unanswered.find_pause_s(code, error.trailing_metadata() or ())
        if pause_s is None:
            raise await self._explain(self._failure or error) from error
        await asyncio.sleep(pause_s)

    async def _send(self, call: Any) -> None:
        """Write requests: those that have no answer yet, then those that come."""
        number = 0
        if self._unanswered.has_failed:
            await asyncio.sleep(LISTEN_S)
        while True:
            changed = self._changed
            if request := self._unanswered.find(number):
                number = int(request.id) + 1
                await call.write(request)
            elif self._unanswered.has_all:
                await call.done_writing()
                return
            else:
                await changed.wait()


async def _take_turns(images: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The images, with a turn for other tasks after each."""
    for image in images:
        yield image
        await asyncio.sleep(0)
