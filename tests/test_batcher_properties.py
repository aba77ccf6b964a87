"""serve.batcher under simulated time: whatever callers do while they wait, the right ones are answered, in order."""

import asyncio
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batcher import Batcher
from serve.errors import Expired

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


async def play(plan: list[Caller], max_batch: int) -> tuple[SteppedRun, list["asyncio.Future[list[tuple[int, int]]]"]]:
    """Hold a first run, queue every caller, then let the runs go one by one while callers leave and expire."""
    run = SteppedRun()
    batcher: Batcher[tuple[int, int], tuple[int, int]] = Batcher("test", run, max_batch, clock=run.now)
    first = batcher.submit([(-1, 0)])
    await asyncio.to_thread(run.entered.acquire, timeout=10)
    futures = [
        batcher.submit(make_items(number, caller), 1.0 + caller.at if caller.fate == "expire" else None)
        for number, caller in enumerate(plan)
    ]
    closing = asyncio.ensure_future(batcher.close())
    for time in range(sum(caller.size for caller in plan) + 2):
        for caller, future in zip(plan, futures, strict=True):
            if caller.fate == "leave" and caller.at == time:
                future.cancel()
        run.step.release()
        if not closing.done():
            await asyncio.to_thread(run.entered.acquire, timeout=0.02)
    await closing
    await asyncio.gather(first, *futures, return_exceptions=True)
    return run, futures


@settings(max_examples=150, deadline=None)
@given(plan=callers, max_batch=st.integers(1, 8))
def test_everyone_who_waits_is_answered_and_nothing_else_is_run(plan: list[Caller], max_batch: int) -> None:
    run, futures = asyncio.run(play(plan, max_batch))
    poisoned = {number for batch in run.batches if any(item[1] == POISON for item in batch) for number, _ in batch}
    for number, (caller, future) in enumerate(zip(plan, futures, strict=True)):
        if future.cancelled():
            assert caller.fate == "leave"
        elif isinstance(future.exception(), Expired):
            assert caller.fate == "expire"
        elif isinstance(future.exception(), ValueError):
            assert number in poisoned
        else:
            assert future.result() == make_items(number, caller)
    run_items = [item for batch in run.batches[1:] for item in batch]
    assert len(set(run_items)) == len(run_items)
    assert [number for number, _ in run_items] == sorted(number for number, _ in run_items)
    assert all(len(batch) <= max_batch for batch in run.batches)


@settings(max_examples=50, deadline=None)
@given(plan=callers, max_batch=st.integers(1, 8))
def test_who_left_or_expired_before_any_turn_is_never_run(plan: list[Caller], max_batch: int) -> None:
    gone = [Caller(caller.size, caller.fate, 0) for caller in plan]
    run, futures = asyncio.run(play(gone, max_batch))
    were_run = {number for batch in run.batches[1:] for number, _ in batch}
    for number, caller in enumerate(gone):
        if caller.fate in ("leave", "expire"):
            assert number not in were_run
            assert futures[number].cancelled() or isinstance(futures[number].exception(), Expired)


def test_the_plans_reach_every_fate() -> None:
    """The properties above would hold for a batcher that only ever expired; here each fate has its one outcome."""
    plan = [Caller(2, "wait", 0), Caller(1, "leave", 0), Caller(1, "expire", 0), Caller(1, "poison", 0)]
    _, futures = asyncio.run(play(plan, 2))
    assert futures[0].result() == make_items(0, plan[0])
    assert futures[1].cancelled()
    with pytest.raises(Expired):
        futures[2].result()
    with pytest.raises(ValueError, match="poison"):
        futures[3].result()
