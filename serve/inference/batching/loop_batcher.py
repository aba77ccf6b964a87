"""A batcher on the event loop: what has come when nothing more comes is the next batch.

Enters: groups of items. Leaves: their results. Does not know: images, models, gRPC.

It suits short runs in a process of one core. There a thread and the loop would hand the interpreter's lock to and fro,
and the thread would take its batch before the loop has read what has come (docs/benchmarks/history.md).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from serve.inference.batching.batcher import Batcher, Group, OnNeverRun, Part, R, T, cut, ignore
from serve.machine.scheduling import yield_core


class LoopBatcher(Batcher[T, R]):
    """Runs on the event loop once everything that has come is read: for runs of a few milliseconds."""

    QUIET_ITERATIONS = 16
    """Close a batch after so many iterations in succession without a new item, or when it is full.

    A call takes several iterations from its first byte to `submit`. Sixteen take about a tenth of a millisecond. One is
    enough while requests come singly.
    """

    BUSY_ITERATION_S = 0.002
    LONGEST_DEFERRAL_S = 0.03
    """When more than one batch is queued, read new requests first, so that they are rejected quickly.

    The next run is put off after an iteration longer than the first, but by at most the second since the last run."""

    def __init__(
        self,
        run: Callable[[list[T]], list[R]],
        max_batch: int,
        clock: Callable[[], float] = time.monotonic,
        on_never_run: OnNeverRun = ignore,
    ) -> None:
        super().__init__(run, max_batch, True, clock, on_never_run)
        self._waiting: deque[Part[T, R]] = deque()
        self._item_count = 0  # in `_waiting`
        self._last_run_s = clock()

    async def close(self) -> None:
        """Take nothing new, and finish everything that was accepted."""
        self._closed = True
        while self._waiting:
            await asyncio.sleep(0)
        self._forget_run()

    def _is_idle(self) -> bool:
        return super()._is_idle() and not self._waiting

    def _queue(self, group: Group[T, R]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._iterate, 0, 0, self._clock())
        size = len(group.items)
        self._waiting.append((group, 0, size))
        self._item_count += size

    def _iterate(self, quiet_iterations: int, seen: int, last_s: float) -> None:
        """Let the loop read while something comes, then run. Called in every iteration while something waits."""
        waiting, now_s = self._item_count, self._clock()
        quiet_iterations = quiet_iterations + 1 if waiting == seen else 0
        if self._reads_on(waiting, quiet_iterations, now_s, now_s - last_s):
            if not self._comes_singly:
                yield_core()  # to the threads that read what has come
            self._loop.call_soon(self._iterate, quiet_iterations, waiting, now_s)
            return
        if batch := self._next_batch():
            self._deliver(batch, self._run_batch(batch))
        self._last_run_s = self._clock()
        if self._waiting:
            self._loop.call_soon(self._iterate, 0, 0, self._last_run_s)

    def _reads_on(self, waiting: int, quiet_iterations: int, now_s: float, iteration_s: float) -> bool:
        if waiting > self._max_batch:
            return iteration_s > self.BUSY_ITERATION_S and now_s - self._last_run_s < self.LONGEST_DEFERRAL_S
        return waiting < self._max_batch and quiet_iterations < (1 if self._comes_singly else self.QUIET_ITERATIONS)

    def _next_batch(self) -> list[Part[T, R]]:
        """What waits and is still wanted, at most a full batch."""
        batch: list[Part[T, R]] = []
        room = self._max_batch
        while self._waiting and room:
            part = _, start, stop = self._waiting.popleft()
            self._item_count -= stop - start
            if self._is_wanted(part):
                if stop - start > room:
                    part, rest = cut(part, room)
                    self._waiting.appendleft(rest)
                    self._item_count += rest[2] - rest[1]
                batch.append(part)
                room -= min(room, stop - start)
        return batch
