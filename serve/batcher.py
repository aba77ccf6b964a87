"""Many callers -> one run: what waited while the last batch ran is the next batch.

Enters: groups of items from the event loop. Leaves: one future per group, with a result or an error per item.
Does not know: images, models, gRPC.

Neither kind waits for a batch to fill unless told to: with one caller a batch has one item, under load it has many.
A `ThreadBatcher` runs its batches in a thread of its own. A `LoopBatcher` runs them on the event loop, between its
turns: the better place for short runs where a process has one core. There a thread and the loop hand the interpreter's
lock to and fro, and the thread takes its batch before the loop has read what has come (BENCHMARKS.md has figures).
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from serve.errors import Draining, Expired

ALONE_SIZE = 1.5
SIZE_MEMORY = 0.9
"""What each batch keeps of the sizes before it: after one of 30, thirty of one are needed to count as alone."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Group(Generic[T, R]):
    """The items of one call, and the future that waits for all of them."""

    items: Sequence[T]
    done: asyncio.Future[list[R]]
    deadline_s: float | None
    results: list[R | None] = field(init=False)
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.items)
        self.results = [None] * self.missing


_Entry = tuple[_Group[T, R], int]


class Batcher(ABC, Generic[T, R]):
    """Runs items of many callers together, oldest first, at most `max_batch` at a time.

    `run` takes a list of items and returns as many results; it must not raise for the fault of one item.
    Where it raises nevertheless, every caller of that batch gets the exception and the next batch is formed.
    """

    def __init__(
        self, run: Callable[[list[T]], list[R]], max_batch: int, alone_at_once: bool, clock: Callable[[], float]
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._alone_at_once = alone_at_once
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._recent_size = 0.0
        self._turn_is_taken = False

    def submit(self, items: Sequence[T], deadline_s: float | None = None) -> asyncio.Future[list[R]]:
        """Queue a group; on the event loop only. Cancelling the future takes back what has not begun.

        `deadline_s` is on the batcher's clock; past it, what has not begun is skipped and the future
        fails with Expired. Raises Draining after `close`.
        """
        if self._closed:
            raise Draining("the server is stopping and takes no new work")
        group: _Group[T, R] = _Group(items, self._loop.create_future(), deadline_s)
        entries = [(group, index) for index in range(len(items))]
        if self._alone_at_once and len(items) == 1 and self._is_alone() and self._is_wanted(group):
            self._run_at_once(entries)
        else:
            self._queue(entries)
        return group.done

    @abstractmethod
    async def close(self) -> None:
        """Take nothing new, and finish everything that was accepted."""

    @abstractmethod
    def _queue(self, entries: list[_Entry[T, R]]) -> None: ...

    @property
    def _has_been_alone(self) -> bool:
        """Whether the last batches had one item each; one such batch may be chance."""
        return self._recent_size <= ALONE_SIZE

    def _is_alone(self) -> bool:
        """Whether nothing else is under way. Of several that come in one turn of the loop, only the first is."""
        return self._has_been_alone and not self._turn_is_taken

    def _run_at_once(self, entries: list[_Entry[T, R]]) -> None:
        """Without a queue, a thread, or a turn of the loop: its caller does not even have to wait for its future."""
        self._turn_is_taken = True
        self._loop.call_soon(self._free_turn)
        _deliver(entries, self._run_safely(entries))

    def _free_turn(self) -> None:
        self._turn_is_taken = False

    def _run_safely(self, batch: list[_Entry[T, R]]) -> list[R] | Exception:
        self._recent_size = max(float(len(batch)), SIZE_MEMORY * self._recent_size)
        try:
            return self._run([group.items[index] for group, index in batch])
        except Exception as error:  # handed to the callers of this batch; those of the next must be served
            return error

    def _is_wanted(self, group: _Group[T, R]) -> bool:
        """Whether somebody still waits. Read beside the event loop: at worst a result is thrown away."""
        if group.done.done():
            return False
        if group.deadline_s is not None and self._clock() >= group.deadline_s:
            self._loop.call_soon_threadsafe(_expire, group)
            return False
        return True


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
        self._waiting: SimpleQueue[_Entry[T, R] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Take nothing new, finish everything that was accepted, and end the thread."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _is_alone(self) -> bool:
        return super()._is_alone() and self._is_idle and self._waiting.empty()

    def _queue(self, entries: list[_Entry[T, R]]) -> None:
        for entry in entries:
            self._waiting.put(entry)

    def _work(self) -> None:
        while batch := self._next_batch():
            self._loop.call_soon_threadsafe(_deliver, batch, self._run_safely(batch))
            self._is_idle = True

    def _next_batch(self) -> list[_Entry[T, R]]:
        """Wait for one entry, then take what is there; empty when closed and nothing waits."""
        batch: list[_Entry[T, R]] = []
        entry = self._waiting.get()
        self._is_idle = False
        closes_s = self._clock() + self._max_queue_delay_s
        while entry is not None:
            if self._is_wanted(entry[0]):
                batch.append(entry)
                if len(batch) == self._max_batch:
                    return batch
            try:
                entry = self._take(closes_s) if batch else self._waiting.get()
            except Empty:
                return batch
        self._waiting.put(None)  # the mark of close(), for the next time; what came before it still runs
        return batch

    def _take(self, closes_s: float) -> _Entry[T, R] | None:
        """One more entry: one that is there, or one that comes before the batch closes. Raises Empty."""
        wait_s = closes_s - self._clock() if self._max_queue_delay_s else 0
        return self._waiting.get(timeout=wait_s) if wait_s > 0 else self._waiting.get_nowait()


class LoopBatcher(Batcher[T, R]):
    """Runs on the event loop once everything that has come is read: for runs of a few milliseconds."""

    PATIENCE_TURNS = 16
    """A batch is closed when so many turns of the loop in succession brought nothing new, or when it is full.

    A call takes several turns from its first byte to `submit`, so one quiet turn does not mean that none is on its
    way. Sixteen take about a tenth of a millisecond; who has been alone for some time waits for one.
    """

    def __init__(
        self, run: Callable[[list[T]], list[R]], max_batch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(run, max_batch, True, clock)
        self._waiting: deque[_Entry[T, R]] = deque()

    async def close(self) -> None:
        """Take nothing new, and finish everything that was accepted."""
        self._closed = True
        while self._waiting:
            await asyncio.sleep(0)

    def _is_alone(self) -> bool:
        return super()._is_alone() and not self._waiting

    def _queue(self, entries: list[_Entry[T, R]]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._take_turn, 0, 0)
        self._waiting.extend(entries)

    def _take_turn(self, quiet_turns: int, seen: int) -> None:
        """Let the loop read for as long as something comes, then run. Called at every turn while something waits."""
        waiting = len(self._waiting)
        quiet_turns = quiet_turns + 1 if waiting == seen else 0
        if waiting < self._max_batch and quiet_turns < (1 if self._has_been_alone else self.PATIENCE_TURNS):
            self._loop.call_soon(self._take_turn, quiet_turns, waiting)
            return
        if batch := self._next_batch():
            _deliver(batch, self._run_safely(batch))
        if self._waiting:
            self._loop.call_soon(self._take_turn, 0, 0)

    def _next_batch(self) -> list[_Entry[T, R]]:
        """What waits and is still wanted, at most a full batch."""
        batch: list[_Entry[T, R]] = []
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if self._is_wanted(entry[0]):
                batch.append(entry)
        return batch


def _expire(group: _Group[T, R]) -> None:
    if not group.done.done():
        group.done.set_exception(Expired("the call's deadline passed before its turn came"))


def _deliver(batch: list[_Entry[T, R]], results: list[R] | Exception) -> None:
    """On the event loop: give every group its results, and wake those that are complete."""
    for position, (group, index) in enumerate(batch):
        if group.done.done():
            continue
        if isinstance(results, Exception):
            group.done.set_exception(results)
            continue
        group.results[index] = results[position]
        group.missing -= 1
        if not group.missing:
            group.done.set_result(group.results)  # type: ignore[arg-type]  # complete: no None is left
