"""A batcher with a thread: what waited while the last batch ran is the next batch.

Enters: groups of items, from the event loop. Leaves: their results, handed back to the loop a batch at a time.
Does not know: images, models, gRPC.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from serve.inference.batcher import Batcher, Group, Part, R, T, cut, deliver
from serve.machine.scheduling import stand_back


class ThreadBatcher(Batcher[T, R]):
    """Runs in a thread: for long runs, for a device, or where a process has cores to spare.

    `alone_at_once` spares a lone item the way to the thread and back: for one that takes a few milliseconds.
    """

    def __init__(
        self,
        run: Callable[[list[T]], list[R]],
        max_batch: int,
        max_queue_delay_us: int = 0,
        alone_at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(run, max_batch, alone_at_once, clock)
        self._max_queue_delay_s = max_queue_delay_us / 1e6
        self._is_idle = True
        self._waiting: SimpleQueue[Part[T, R] | None] = SimpleQueue()
        self._rest: Part[T, R] | None = None  # of a group that the last batch had no room for
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Take nothing new, finish everything that was accepted, and end the thread."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _is_alone(self) -> bool:
        return super()._is_alone() and self._is_idle and self._rest is None and self._waiting.empty()

    def _queue(self, group: Group[T, R]) -> None:
        self._waiting.put((group, 0, len(group.items)))

    def _work(self) -> None:
        stand_back()
        while batch := self._next_batch():
            self._loop.call_soon_threadsafe(deliver, batch, self._run_batch(batch))
            self._is_idle = True

    def _next_batch(self) -> list[Part[T, R]]:
        """Wait for one part, then take what is there; empty when closed and nothing waits."""
        batch: list[Part[T, R]] = []
        room = self._max_batch
        closes_s = 0.0
        part, self._rest = self._rest or self._waiting.get(), None
        while part is not None:
            group, start, stop = part
            if self._is_wanted(group):
                if not batch:  # only now: after a part that nobody wants any more there is nothing to run yet
                    self._is_idle = False
                    closes_s = self._clock() + self._max_queue_delay_s
                if stop - start > room:
                    part, self._rest = cut(part, room)
                batch.append(part)
                room -= min(room, stop - start)
                if not room:
                    return batch
            try:
                part = self._take(closes_s) if batch else self._waiting.get()
            except Empty:
                return batch
        self._waiting.put(None)  # the mark of close(), for the next time; what came before it still runs
        return batch

    def _take(self, closes_s: float) -> Part[T, R] | None:
        """One more part: one that is there, or one that comes before the batch closes. Raises Empty."""
        wait_s = closes_s - self._clock() if self._max_queue_delay_s else 0
        return self._waiting.get(timeout=wait_s) if wait_s > 0 else self._waiting.get_nowait()
