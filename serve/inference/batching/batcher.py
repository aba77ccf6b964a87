"""What every batcher does: many callers' groups of items -> runs of at most `max_batch` items.

Enters: groups of items from the event loop. Leaves: one future per group, with a result or an error per item.
Does not know: images, models, gRPC, and when a batch is formed (`thread_batcher.py` and `loop_batcher.py`).

No batcher waits for a batch to fill unless told to: with one client a batch has one item, under load it has many.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from serve.errors import Draining, Expired

SINGLE_SIZE = 1.5
"""Items. Up to this recent batch size, requests count as coming one at a time."""
SIZE_MEMORY = 0.9
"""Factor by which the recent batch size shrinks per batch: after one of 30, thirty of one count as single again."""

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
"""A range of a group's items, from the first index up to the second: all of them, or what a batch had room for."""


OnNeverRun: TypeAlias = Callable[[int, bool], None]
"""Told how many items never run, because their caller left or (True) their deadline passed. From any thread."""


def ignore(count: int, is_late: bool) -> None:
    """Note nothing."""


class Batcher(ABC, Generic[T, R]):
    """Runs items of many callers together, oldest first, at most `max_batch` at a time.

    `run` takes a list of items and returns as many results; it must not raise for the fault of one item.
    If it raises nevertheless, every caller of that batch gets the exception and the next batch is formed.
    """

    def __init__(
        self,
        run: Callable[[list[T]], list[R]],
        max_batch: int,
        single_at_once: bool,
        clock: Callable[[], float],
        on_never_run: OnNeverRun,
    ) -> None:
        self._on_never_run = on_never_run
        self._run = run
        self._max_batch = max_batch
        self._single_at_once = single_at_once
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._recent_size = 0.0  # written on the event loop alone
        self._iteration_is_taken = False

    def submit(self, items: Sequence[T], deadline_s: float | None = None) -> asyncio.Future[list[R]]:
        """Queue a group; on the event loop only. Cancelling the future takes back what has not begun.

        `deadline_s` is on the batcher's clock. Past it, what has not begun is skipped and the future fails with
        Expired. Raises Draining after `close`.
        """
        if self._closed:
            raise Draining("the server is stopping and takes no new work")
        done: asyncio.Future[list[R]] = self._loop.create_future()
        if self._single_at_once and len(items) == 1 and self._is_idle() and not self._is_late(deadline_s):
            self._run_at_once(items, done)
        else:
            self._queue(Group(items, done, deadline_s))
        return done

    @abstractmethod
    async def close(self) -> None:
        """Take nothing new, and finish everything that was accepted."""

    def _forget_run(self) -> None:
        """Let go of whom it ran for, once closed: a model's memory must not wait for the garbage collector."""
        self._run = _run_nothing

    @abstractmethod
    def _queue(self, group: Group[T, R]) -> None: ...

    @property
    def _comes_singly(self) -> bool:
        """Whether the last batches had one item each; one such batch may be chance."""
        return self._recent_size <= SINGLE_SIZE

    def _is_idle(self) -> bool:
        """Whether nothing else is under way. Of several that come in one iteration of the loop, only the first is."""
        return self._comes_singly and not self._iteration_is_taken

    def _run_at_once(self, items: Sequence[T], done: asyncio.Future[list[R]]) -> None:
        """Run without a queue, a thread, or another iteration of the loop."""
        self._iteration_is_taken = True
        self._loop.call_soon(self._free_iteration)
        self._note_size(1)
        results = self._run_safely(list(items))
        if isinstance(results, Exception):
            done.set_exception(results)
        else:
            done.set_result(results)

    def _free_iteration(self) -> None:
        self._iteration_is_taken = False

    def _note_size(self, size: int) -> None:
        self._recent_size = max(float(size), SIZE_MEMORY * self._recent_size)

    def _run_batch(self, batch: list[Part[T, R]]) -> list[R] | Exception:
        return self._run_safely([item for group, start, stop in batch for item in group.items[start:stop]])

    def _run_safely(self, items: list[T]) -> list[R] | Exception:
        try:
            return self._run(items)
        except Exception as error:  # handed to the callers of this batch; those of the next must be served
            return error

    def _is_wanted(self, part: Part[T, R]) -> bool:
        """Whether the caller still waits. It may leave at this moment; its result is then thrown away."""
        group, start, stop = part
        is_late = self._is_late(group.deadline_s)
        if not group.done.done():
            if not is_late:
                return True
            self._loop.call_soon_threadsafe(_expire, group)
        if is_late or group.done.cancelled():
            self._on_never_run(stop - start, is_late)
        return False

    def _is_late(self, deadline_s: float | None) -> bool:
        return deadline_s is not None and self._clock() >= deadline_s

    def _deliver(self, batch: list[Part[T, R]], results: list[R] | Exception) -> None:
        """On the event loop: give every group its results, and complete the futures of those that have all."""
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
        self._note_size(begin)


def _run_nothing(items: list[T]) -> list[R]:
    raise Draining(f"{len(items)} items came after the close")


def _expire(group: Group[T, R]) -> None:
    if not group.done.done():
        group.done.set_exception(Expired("the call's deadline passed before its turn came"))


def cut(part: Part[T, R], size: int) -> tuple[Part[T, R], Part[T, R]]:
    """The first `size` items of a part, and the others."""
    group, start, stop = part
    return (group, start, start + size), (group, start + size, stop)
