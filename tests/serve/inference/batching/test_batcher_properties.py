"""serve.inference.batching.batcher in simulated time: callers that wait get their answers, in order, whatever comes."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import Expired
from serve.inference.batching.batcher import Batcher
from serve.inference.batching.loop_batcher import LoopBatcher
from serve.inference.batching.thread_batcher import ThreadBatcher

POISON = -1


@dataclass(frozen=True)
class Caller:
    """A caller of `size` items that leaves, expires, brings an item that breaks its run, or simply waits."""

    size: int
    fate: str
    at: int
    """When it leaves or expires, in runs of the batcher."""


callers = st.lists(
    st.builds(
        Caller,
        size=st.integers(1, 7),
        fate=st.sampled_from(["wait", "wait", "leave", "expire", "poison"]),
        at=st.integers(0, 6),
    ),
    min_size=1,
    max_size=25,
)


class SteppedRun:
    """A `run` that waits for the test between batches, and a clock that counts the batches."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []
        self.step = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)

    def __call__(self, items: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Answer every item with itself, unless one of them is poison."""
        self.batches.append(items)
        self.entered.release()
        assert self.step.acquire(timeout=10)
        if any(item[1] == POISON for item in items):
            raise ValueError("poison")
        return items

    def now(self) -> float:
        """The number of batches that have begun."""
        return float(len(self.batches))


def make_items(number: int, caller: Caller) -> list[tuple[int, int]]:
    items = [(number, index) for index in range(caller.size)]
    if caller.fate == "poison":
        items[-1] = (number, POISON)
    return items


Futures = list["asyncio.Future[list[tuple[int, int]]]"]
Play = Callable[[list[Caller], int], Coroutine[None, None, tuple[list[list[tuple[int, int]]], Futures]]]


async def play_in_thread(plan: list[Caller], max_batch: int) -> tuple[list[list[tuple[int, int]]], Futures]:
    """Hold a first run, queue every caller, then let the runs go one by one while callers leave and expire."""
    run = SteppedRun()
    batcher = ThreadBatcher(run, max_batch, clock=run.now)
    first = batcher.submit([(-1, 0)])
    await asyncio.to_thread(run.entered.acquire, timeout=10)
    futures = submit_all(batcher, plan)
    closing = asyncio.ensure_future(batcher.close())
    for time in range(sum(caller.size for caller in plan) + 2):
        let_leave(plan, futures, time)
        run.step.release()
        if not closing.done():
            await asyncio.to_thread(run.entered.acquire, timeout=0.02)
    await closing
    await asyncio.gather(first, *futures, return_exceptions=True)
    return run.batches, futures


async def play_on_loop(plan: list[Caller], max_batch: int) -> tuple[list[list[tuple[int, int]]], Futures]:
    """The same on the event loop, where nothing happens beside a run: callers leave at its end."""
    batches: list[list[tuple[int, int]]] = []
    futures: Futures = []

    def run(items: list[tuple[int, int]]) -> list[tuple[int, int]]:
        batches.append(items)
        asyncio.get_running_loop().call_soon(let_leave, plan, futures, len(batches) - 1)
        if any(item[1] == POISON for item in items):
            raise ValueError("poison")
        return items

    batcher = LoopBatcher(run, max_batch, clock=lambda: float(len(batches)))
    await batcher.submit([(-1, 0)])
    futures.extend(submit_all(batcher, plan))
    let_leave(plan, futures, 0)
    await batcher.close()
    await asyncio.gather(*futures, return_exceptions=True)
    return batches, futures


def submit_all(batcher: Batcher[tuple[int, int], tuple[int, int]], plan: list[Caller]) -> Futures:
    return [
        batcher.submit(make_items(number, caller), 1.0 + caller.at if caller.fate == "expire" else None)
        for number, caller in enumerate(plan)
    ]


def let_leave(plan: list[Caller], futures: Futures, time: int) -> None:
    for caller, future in zip(plan, futures, strict=False):
        if caller.fate == "leave" and caller.at == time:
            future.cancel()


both = pytest.mark.parametrize("play", [play_in_thread, play_on_loop])


@both
@settings(max_examples=150, deadline=None)
@given(plan=callers, max_batch=st.integers(1, 8))
def test_everyone_who_waits_is_answered_and_nothing_else_is_run(play: Play, plan: list[Caller], max_batch: int) -> None:
    batches, futures = asyncio.run(play(plan, max_batch))
    poisoned = {number for batch in batches if any(item[1] == POISON for item in batch) for number, _ in batch}
    for number, (caller, future) in enumerate(zip(plan, futures, strict=True)):
        if future.cancelled():
            assert caller.fate == "leave"
        elif isinstance(future.exception(), Expired):
            assert caller.fate == "expire"
        elif isinstance(future.exception(), ValueError):
            assert number in poisoned
        else:
            assert future.result() == make_items(number, caller)
    run_items = [item for batch in batches[1:] for item in batch]
    assert len(set(run_items)) == len(run_items)
    assert [number for number, _ in run_items] == sorted(number for number, _ in run_items)
    assert all(len(batch) <= max_batch for batch in batches)


@both
@settings(max_examples=50, deadline=None)
@given(plan=callers, max_batch=st.integers(1, 8))
def test_who_left_or_expired_before_any_turn_is_never_run(play: Play, plan: list[Caller], max_batch: int) -> None:
    gone = [Caller(caller.size, caller.fate, 0) for caller in plan]
    batches, futures = asyncio.run(play(gone, max_batch))
    were_run = {number for batch in batches[1:] for number, _ in batch}
    for number, caller in enumerate(gone):
        if caller.fate in ("leave", "expire"):
            assert number not in were_run
            assert futures[number].cancelled() or isinstance(futures[number].exception(), Expired)


@both
def test_the_plans_reach_every_fate(play: Play) -> None:
    """The properties above would hold for a batcher that only ever expired; here each fate has its one outcome."""
    plan = [Caller(2, "wait", 0), Caller(1, "leave", 0), Caller(1, "expire", 0), Caller(1, "poison", 0)]
    _, futures = asyncio.run(play(plan, 2))
    assert futures[0].result() == make_items(0, plan[0])
    assert futures[1].cancelled()
    with pytest.raises(Expired):
        futures[2].result()
    with pytest.raises(ValueError, match="poison"):
        futures[3].result()
