"""serve.inference.batching.thread_batcher: many callers, one run, and one caller's fault costs no other."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from serve.errors import Draining, Expired
from serve.inference.batching.batcher import Batcher
from serve.inference.batching.thread_batcher import ThreadBatcher


class Gate:
    """A `run` that doubles its items, records every batch, and can be held shut by the test."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def __call__(self, items: list[int]) -> list[int]:
        """The run that the batcher is given."""
        self.batches.append(items)
        self.entered.set()
        assert self.open.wait(10)
        if 13 in items:
            raise ValueError("13 fails the whole run")
        return [2 * item for item in items]


async def hold(gate: Gate, batcher: Batcher[int, int]) -> "asyncio.Future[list[int]]":
    """Begin a run of one item that does not end before `gate.open` is set."""
    gate.open.clear()
    gate.entered.clear()
    first = batcher.submit([0])
    await asyncio.to_thread(gate.entered.wait, 10)
    return first


def run(
    scenario: Callable[[Gate, Batcher[int, int]], "asyncio.Future[None]"],
    max_batch: int = 4,
    max_queue_delay_us: int = 0,
) -> Gate:
    """Run a scenario with a batcher that is closed at the end."""
    gate = Gate()

    async def main() -> None:
        batcher = ThreadBatcher(gate, max_batch, max_queue_delay_us)
        try:
            await scenario(gate, batcher)
        finally:
            gate.open.set()
            await batcher.close()

    asyncio.run(main())
    return gate


def test_a_lone_caller_does_not_wait_for_a_batch_to_fill() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        assert await batcher.submit([3]) == [6]

    assert run(scenario).batches == [[3]]


def test_what_waited_during_a_run_is_the_next_batch_oldest_first() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        first = await hold(gate, batcher)
        waiting = [batcher.submit([1]), batcher.submit([2, 3]), batcher.submit([4, 5])]
        gate.open.set()
        assert await asyncio.gather(first, *waiting) == [[0], [2], [4, 6], [8, 10]]

    assert run(scenario).batches == [[0], [1, 2, 3, 4], [5]]


def test_a_cancelled_caller_is_skipped_and_its_neighbours_are_answered() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        first = await hold(gate, batcher)
        leaver, stayer = batcher.submit([1, 1]), batcher.submit([2])
        leaver.cancel()
        gate.open.set()
        assert await asyncio.gather(first, stayer) == [[0], [4]]

    assert run(scenario).batches == [[0], [2]]


def test_a_caller_cancelled_during_its_run_costs_the_others_nothing() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        first = await hold(gate, batcher)
        first.cancel()
        second = batcher.submit([5])
        gate.open.set()
        assert await second == [10]

    run(scenario)


def test_work_past_its_deadline_is_not_run_and_its_caller_is_told() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        await hold(gate, batcher)
        late = batcher.submit([1], deadline_s=time.monotonic() - 1)
        early = batcher.submit([2], deadline_s=time.monotonic() + 60)
        gate.open.set()
        with pytest.raises(Expired):
            await late
        assert await early == [4]

    assert run(scenario).batches == [[0], [2]]


def test_a_run_that_raises_fails_its_own_callers_and_no_later_ones() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        with pytest.raises(ValueError, match="13"):
            await batcher.submit([13])
        assert await batcher.submit([1]) == [2]

    run(scenario)


def test_a_group_larger_than_a_batch_is_answered_in_order() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        assert await batcher.submit(list(range(11))) == [2 * item for item in range(11)]

    assert max(map(len, run(scenario).batches)) <= 4


def test_what_is_left_of_a_group_is_run_before_those_that_came_after_it() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        first = await hold(gate, batcher)
        waiting = [batcher.submit([1]), batcher.submit([2, 3, 4, 5, 6]), batcher.submit([7])]
        gate.open.set()
        assert await asyncio.gather(first, *waiting) == [[0], [2], [4, 6, 8, 10, 12], [14]]

    assert run(scenario).batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_a_group_of_which_one_part_failed_is_not_run_further() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        first = await hold(gate, batcher)
        group = batcher.submit([13, 1, 2, 3, 4, 5, 6, 7])
        gate.open.set()
        await first
        with pytest.raises(ValueError, match="13"):
            await group
        assert await batcher.submit([9]) == [18]

    assert run(scenario).batches.count([13, 1, 2, 3]) == 1


def test_closing_finishes_what_was_accepted_and_takes_nothing_new() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        first = await hold(gate, batcher)
        waiting = [batcher.submit([item]) for item in range(1, 10)]
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            batcher.submit([1])
        gate.open.set()
        assert await asyncio.gather(first, *waiting) == [[2 * item] for item in range(10)]
        await closing

    run(scenario)


def test_a_queue_delay_waits_for_a_batch_to_fill_and_no_longer() -> None:
    async def scenario(gate: Gate, batcher: Batcher[int, int]) -> None:
        one, two = batcher.submit([1]), asyncio.ensure_future(submit_later(batcher, 2))
        assert await asyncio.gather(one, two) == [[2], [4]]

    async def submit_later(batcher: Batcher[int, int], item: int) -> list[int]:
        await asyncio.sleep(0.02)
        return await batcher.submit([item])

    assert run(scenario, max_queue_delay_us=10_000_000, max_batch=2).batches == [[1, 2]]
    assert run(scenario, max_queue_delay_us=0, max_batch=2).batches == [[1], [2]]


def test_a_lone_item_may_be_run_on_the_loop_and_company_has_the_thread() -> None:
    threads: list[str] = []

    def note(items: list[int]) -> list[int]:
        threads.append(f"{threading.current_thread().name} {len(items)}")
        return [2 * item for item in items]

    async def scenario() -> None:
        batcher = ThreadBatcher(note, 4, single_at_once=True)
        assert await batcher.submit([1]) == [2]
        assert await asyncio.gather(batcher.submit([2]), batcher.submit([3])) == [[4], [6]]
        assert await batcher.submit([6, 7]) == [12, 14]  # the two before may have missed each other
        assert await batcher.submit([4]) == [8]  # it had company a moment ago
        last = batcher.submit([5])
        await batcher.close()
        assert await last == [10]

    asyncio.run(scenario())
    assert threads[0] == "MainThread 1"
    assert {each.split()[0] for each in threads[1:]} == {"batcher"}
    assert sum(int(each.split()[1]) for each in threads) == 7


def test_after_expired_work_a_batch_waits_as_long_as_any_other() -> None:
    """Its delay begins with the first item that is run, not with one that nobody waits for."""
    gate, now_s = Gate(), 0.0

    async def scenario() -> None:
        nonlocal now_s
        batcher = ThreadBatcher(gate, 2, max_queue_delay_us=10_000_000, clock=lambda: now_s)
        with pytest.raises(Expired):
            await batcher.submit([1], deadline_s=-1)
        now_s = 100.0
        one = batcher.submit([2])
        await asyncio.sleep(0.1)
        two = batcher.submit([3])
        assert await asyncio.gather(one, two) == [[4], [6]]
        await batcher.close()

    asyncio.run(scenario())
    assert gate.batches == [[2, 3]]


def test_after_expired_work_a_lone_item_is_run_on_the_loop_all_the_same() -> None:
    threads: list[str] = []

    def note(items: list[int]) -> list[int]:
        threads.append(threading.current_thread().name)
        return items

    async def scenario() -> None:
        batcher = ThreadBatcher(note, 4, single_at_once=True)
        with pytest.raises(Expired):
            await batcher.submit([1], deadline_s=time.monotonic() - 1)
        while not batcher._waiting.empty():  # its caller may get the error before the thread has dropped it
            await asyncio.sleep(0)
        assert await batcher.submit([2]) == [2]
        await batcher.close()

    asyncio.run(scenario())
    assert threads == ["MainThread"]
