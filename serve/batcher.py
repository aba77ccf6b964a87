"""Many callers -> one run: what waited while the last batch ran is the next batch.

Enters: groups of items from the event loop. Leaves: one future per group, with a result or an error per item.
Does not know: images, models, gRPC. `run` is called in one thread of the batcher's own.

Unless told to, it never waits for a batch to fill: with one caller a batch has one item, under load it has many.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from serve.errors import Draining, Expired

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


class Batcher(Generic[T, R]):
    """Runs items of many callers together, oldest first, at most `max_batch` at a time.

    `run` takes a list of items and returns as many results; it must not raise for the fault of one item.
    Where it raises nevertheless, every caller of that batch gets the exception and the next batch is formed.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[T]], list[R]],
        max_batch: int,
        max_queue_delay_us: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._run = run
        self._max_queue_delay_s = max_queue_delay_us / 1e6
        self._max_batch = max_batch
        self._waiting: SimpleQueue[_Entry[T, R] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"batcher-{name}", daemon=True)
        self._thread.start()

    def submit(self, items: Sequence[T], deadline_s: float | None = None) -> asyncio.Future[list[R]]:
        """Queue a group; on the event loop only. Cancelling the future takes back what has not begun.

        `deadline_s` is on the batcher's clock; past it, what has not begun is skipped and the future
        fails with Expired. Raises Draining after `close`.
        """
        if self._closed:
            raise Draining("the server is stopping and takes no new work")
        group: _Group[T, R] = _Group(items, self._loop.create_future(), deadline_s)
        for index in range(len(items)):
            self._waiting.put((group, index))
        return group.done

    async def close(self) -> None:
        """Take nothing new, finish everything that was accepted, and end the thread."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while batch := self._next_batch():
            results: list[R] | Exception
            try:
                results = self._run([group.items[index] for group, index in batch])
            except Exception as error:  # handed to the callers of this batch; the thread must live on
                results = error
            self._loop.call_soon_threadsafe(_deliver, batch, results)

    def _next_batch(self) -> list[_Entry[T, R]]:
        """Wait for one entry, then take what is there; empty when closed and nothing waits."""
        batch: list[_Entry[T, R]] = []
        entry = self._waiting.get()
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

    def _is_wanted(self, group: _Group[T, R]) -> bool:
        """Whether somebody still waits. Read beside the event loop: at worst a result is thrown away."""
        if group.done.done():
            return False
        if group.deadline_s is not None and self._clock() >= group.deadline_s:
            self._loop.call_soon_threadsafe(_expire, group)
            return False
        return True


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
