"""A batcher with a thread: what came while the last batch ran is the next batch.

Enters: groups of items, from the event loop. Leaves: their results, handed back to the loop one batch at a time.
Does not know: images, models, gRPC.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from serve.inference.batching.batcher import Batcher, Group, OnNeverRun, Part, R, T, cut, ignore
from serve.machine.scheduling import lower_thread_priority


class ThreadBatcher(Batcher[T, R]):
    """Runs in a thread: for long runs, for a device, or if a process has several cores.

    `single_at_once` runs a single item on the event loop if nothing else is under way: for one of a few milliseconds.
    """

    def __init__(
        self,
        run: Callable[[list[T]], list[R]],
        max_batch: int,
        max_queue_delay_us: int = 0,
        single_at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_never_run: OnNeverRun = ignore,
    ) -> None:
        super().__init__(run, max_batch, single_at_once, clock, on_never_run)
        self._max_queue_delay_s = max_queue_delay_us / 1e6
        self._open_groups = 0  # queued and not done; counted on the event loop alone
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
        self._forget_run()

    def _is_idle(self) -> bool:
        return super()._is_idle() and not self._open_groups

    def _queue(self, group: Group[T, R]) -> None:
        self._open_groups += 1
        group.done.add_done_callback(self._count_done)
        self._waiting.put((group, 0, len(group.items)))

    def _count_done(self, _: asyncio.Future[list[R]]) -> None:
        self._open_groups -= 1

    def _work(self) -> None:
        lower_thread_priority()
        while batch := self._next_batch():
            self._loop.call_soon_threadsafe(self._deliver, batch, self._run_batch(batch))

    def _next_batch(self) -> list[Part[T, R]]:
        """Wait for one part, then take what is there; empty when closed and nothing waits."""
        batch: list[Part[T, R]] = []
        room = self._max_batch
        closes_s = 0.0
        part, self._rest = self._rest or self._waiting.get(), None
        while part is not None:
            _, start, stop = part
            if self._is_wanted(part):
                if not batch:
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
        self._waiting.put(None)  # the end mark of close(), for the next time; what came before it still runs
        return batch

    def _take(self, closes_s: float) -> Part[T, R] | None:
        """One more part: one that is there, or one that comes before the batch closes. Raises Empty."""
        wait_s = closes_s - self._clock() if self._max_queue_delay_s else 0
        return self._waiting.get(timeout=wait_s) if wait_s > 0 else self._waiting.get_nowait()
