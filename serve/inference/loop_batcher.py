"""A batcher on the event loop, between its turns: what has come when nothing more comes is the next batch.

Enters: groups of items. Leaves: their results. Does not know: images, models, gRPC.

The better place for short runs where a process has one core: there a thread and the loop hand the interpreter's lock to
and fro, and the thread takes its batch before the loop has read what has come (docs/benchmarks/serving.md has figures).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from serve.inference.batcher import Batcher, Group, Part, R, T, cut, deliver
from serve.machine.scheduling import give_way


class LoopBatcher(Batcher[T, R]):
    """Runs on the event loop once everything that has come is read: for runs of a few milliseconds."""

    PATIENCE_TURNS = 16
    """A batch is closed when so many turns of the loop in succession brought nothing new, or when it is full.

    A call takes several turns from its first byte to `submit`, so one quiet turn does not mean that none is on its
    way. Sixteen take about a tenth of a millisecond. Where callers have been alone, one is enough.
    """

    BUSY_TURN_S = 0.002
    MOST_DEFERRAL_S = 0.03
    """With more than a batch waiting, what comes now is late or refused, and should hear of it soon: after a turn that
    lasted longer than the one, the next run is put off, but not beyond the other since the last run."""

    def __init__(
        self, run: Callable[[list[T]], list[R]], max_batch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(run, max_batch, True, clock)
        self._waiting: deque[Part[T, R]] = deque()
        self._item_count = 0  # of all that wait
        self._last_run_s = clock()

    async def close(self) -> None:
        """Take nothing new, and finish everything that was accepted."""
        self._closed = True
        while self._waiting:
            await asyncio.sleep(0)

    def _is_alone(self) -> bool:
        return super()._is_alone() and not self._waiting

    def _queue(self, group: Group[T, R]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._take_turn, 0, 0, self._clock())
        size = len(group.items)
        self._waiting.append((group, 0, size))
        self._item_count += size

    def _take_turn(self, quiet_turns: int, seen: int, last_turn_s: float) -> None:
        """Let the loop read for as long as something comes, then run. Called at every turn while something waits."""
        waiting, now_s = self._item_count, self._clock()
        quiet_turns = quiet_turns + 1 if waiting == seen else 0
        if waiting > self._max_batch:
            reads_on = now_s - last_turn_s > self.BUSY_TURN_S and now_s - self._last_run_s < self.MOST_DEFERRAL_S
        else:
            patience_turns = 1 if self._has_been_alone else self.PATIENCE_TURNS
            reads_on = waiting < self._max_batch and quiet_turns < patience_turns
        if reads_on:
            if not self._has_been_alone:
                give_way()  # to the threads that read what has come
            self._loop.call_soon(self._take_turn, quiet_turns, waiting, now_s)
            return
        if batch := self._next_batch():
            deliver(batch, self._run_batch(batch))
        self._last_run_s = self._clock()
        if self._waiting:
            self._loop.call_soon(self._take_turn, 0, 0, self._last_run_s)

    def _next_batch(self) -> list[Part[T, R]]:
        """What waits and is still wanted, at most a full batch."""
        batch: list[Part[T, R]] = []
        room = self._max_batch
        while self._waiting and room:
            part = group, start, stop = self._waiting.popleft()
            self._item_count -= stop - start
            if self._is_wanted(group):
                if stop - start > room:
                    part, rest = cut(part, room)
                    self._waiting.appendleft(rest)
                    self._item_count += rest[2] - rest[1]
                batch.append(part)
                room -= min(room, stop - start)
        return batch
