"""Many callers -> one run: what every batcher does with the groups of items that it is given.

Enters: groups of items from the event loop. Leaves: one future per group, with a result or an error per item.
Does not know: images, models, gRPC, and when a batch is formed: that is `thread_batcher.py` and `loop_batcher.py`.

Neither waits for a batch to fill unless told to: with one caller a batch has one item, under load it has many.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serve.errors import Draining, Expired

ALONE_SIZE = 1.5
SIZE_MEMORY = 0.9
"""What each batch keeps of the sizes before it: after one of 30, thirty of one are needed to count as alone."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Group(Generic[T, R]):
    """The items of one call, the future that waits for all of them, and the results so far."""

    items: Sequence[T]
    done: asyncio.Future[list[R]]
    deadline_s: float | None
    results: list[R] = field(default_factory=list)
    """In the order of the items, which are run in that order."""


Part = tuple[Group[T, R], int, int]
"""A stretch of a group's items, from the one index up to the other: all of them, until a batch has room for less."""


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
        done: asyncio.Future[list[R]] = self._loop.create_future()
        if self._alone_at_once and len(items) == 1 and self._is_alone() and not self._is_late(deadline_s):
            self._run_at_once(items, done)
        else:
            self._queue(Group(items, done, deadline_s))
        return done

    @abstractmethod
    async def close(self) -> None:
        """Take nothing new, and finish everything that was accepted."""

    @abstractmethod
    def _queue(self, group: Group[T, R]) -> None: ...

    @property
    def _has_been_alone(self) -> bool:
        """Whether the last batches had one item each; one such batch may be chance."""
        return self._recent_size <= ALONE_SIZE

    def _is_alone(self) -> bool:
        """Whether nothing else is under way. Of several that come in one turn of the loop, only the first is."""
        return self._has_been_alone and not self._turn_is_taken

    def _run_at_once(self, items: Sequence[T], done: asyncio.Future[list[R]]) -> None:
        """Without a queue, a thread, or a turn of the loop: its caller does not even have to wait for its future."""
        self._turn_is_taken = True
        self._loop.call_soon(self._free_turn)
        results = self._run_safely(list(items))
        if isinstance(results, Exception):
            done.set_exception(results)
        else:
            done.set_result(results)

    def _free_turn(self) -> None:
        self._turn_is_taken = False

    def _run_batch(self, batch: list[Part[T, R]]) -> list[R] | Exception:
        return self._run_safely([item for group, start, stop in batch for item in group.items[start:stop]])

    def _run_safely(self, items: list[T]) -> list[R] | Exception:
        self._recent_size = max(float(len(items)), SIZE_MEMORY * self._recent_size)
        try:
            return self._run(items)
        except Exception as error:  # handed to the callers of this batch; those of the next must be served
            return error

    def _is_wanted(self, group: Group[T, R]) -> bool:
        """Whether somebody still waits. Read beside the event loop: at worst a result is thrown away."""
        if group.done.done():
            return False
        if self._is_late(group.deadline_s):
            self._loop.call_soon_threadsafe(_expire, group)
            return False
        return True

    def _is_late(self, deadline_s: float | None) -> bool:
        return deadline_s is not None and self._clock() >= deadline_s


def _expire(group: Group[T, R]) -> None:
    if not group.done.done():
        group.done.set_exception(Expired("the call's deadline passed before its turn came"))


def cut(part: Part[T, R], size: int) -> tuple[Part[T, R], Part[T, R]]:
    """The first items of a part, and the others."""
    group, start, stop = part
    return (group, start, start + size), (group, start + size, stop)


def deliver(batch: list[Part[T, R]], results: list[R] | Exception) -> None:
    """On the event loop: give every group its results, and wake those that are complete."""
    begin = 0
    for group, start, stop in batch:
        end = begin + stop - start
        if not group.done.done():
            if isinstance(results, Exception):
                group.done.set_exception(results)
            else:
                group.results += results[begin:end]
                if stop == len(group.items):
                    group.done.set_result(group.results)
        begin = end
