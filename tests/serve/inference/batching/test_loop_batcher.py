"""serve.inference.batching.loop_batcher: what has come when nothing more comes is one run; all callers are answered."""

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest

from serve.errors import Draining, Expired
from serve.inference.batching.loop_batcher import LoopBatcher


def run_on_loop(scenario: Callable[[LoopBatcher[int, int]], Coroutine[None, None, None]]) -> list[list[int]]:
    """Run a scenario with a batcher of at most four that lives on the event loop; its batches."""
    batches: list[list[int]] = []

    def record(items: list[int]) -> list[int]:
        batches.append(items)
        if 13 in items:
            raise ValueError("13 fails the whole run")
        return [2 * item for item in items]

    async def main() -> None:
        batcher = LoopBatcher(record, 4)
        await scenario(batcher)
        await batcher.close()

    asyncio.run(main())
    return batches


def test_a_lone_caller_does_not_wait() -> None:
    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        for item in range(5):
            assert batcher.submit([item]).result() == [2 * item]
            await asyncio.sleep(0)

    assert run_on_loop(scenario) == [[0], [1], [2], [3], [4]]


async def come_later(batcher: LoopBatcher[int, int], turns: int) -> list[int]:
    """Submit the number of turns after so many of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return await batcher.submit([turns])


def test_callers_that_come_within_a_few_turns_of_each_other_share_a_run() -> None:
    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        assert await batcher.submit([1, 2]) == [2, 4]  # it was not alone: from now on there is patience
        assert await asyncio.gather(*(come_later(batcher, turns) for turns in (0, 5, 12))) == [[0], [10], [24]]

    assert run_on_loop(scenario) == [[1, 2], [0, 5, 12]]


def test_other_threads_get_the_core_while_a_batch_gathers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[None] = []
    monkeypatch.setattr("serve.inference.batching.loop_batcher.yield_core", lambda: given.append(None))

    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        for item in range(5):
            await batcher.submit([item])
            await asyncio.sleep(0)
        assert not given
        await batcher.submit([1, 2])  # of those before it each was alone
        assert not given
        await batcher.submit([3])
        assert len(given) == LoopBatcher.QUIET_ITERATIONS

    run_on_loop(scenario)


def test_a_full_batch_waits_for_nobody_and_the_rest_is_next() -> None:
    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        answers = await asyncio.gather(batcher.submit([0, 1, 2]), batcher.submit([3, 4]), batcher.submit([5]))
        assert answers == [[0, 2, 4], [6, 8], [10]]

    assert run_on_loop(scenario) == [[0, 1, 2, 3], [4, 5]]


def test_what_a_run_leaves_over_counts_towards_the_next_full_batch() -> None:
    """The rest and two more are as many as a run may have, so nobody waits for others."""

    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        large = asyncio.ensure_future(batcher.submit([1, 2, 3, 4, 5, 6]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        small = asyncio.ensure_future(batcher.submit([7, 8]))
        for _ in range(3):
            await asyncio.sleep(0)
        assert small.done()
        assert (await large, await small) == ([2, 4, 6, 8, 10, 12], [14, 16])

    assert run_on_loop(scenario) == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_caller_that_leaves_between_its_runs_is_no_longer_counted() -> None:
    """Were the items that it left still counted, the three that follow would not be waited for."""

    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        leaver = batcher.submit(list(range(20, 31)))
        await asyncio.sleep(0)
        leaver.cancel()
        assert await asyncio.gather(*(come_later(batcher, turns) for turns in (0, 5, 12))) == [[0], [10], [24]]

    assert run_on_loop(scenario) == [[20, 21, 22, 23], [0, 5, 12]]


def test_a_run_that_raises_fails_its_own_callers_and_no_later_ones() -> None:
    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        failed, late = batcher.submit([1, 2, 3, 13]), batcher.submit([4])
        with pytest.raises(ValueError, match="13"):
            await failed
        assert await late == [8]

    assert run_on_loop(scenario) == [[1, 2, 3, 13], [4]]


def test_who_left_or_is_late_is_skipped_and_told() -> None:
    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        assert batcher.submit([0]).done()
        leaver, late, stayer = batcher.submit([1]), batcher.submit([2], time.monotonic() - 1), batcher.submit([3])
        leaver.cancel()
        with pytest.raises(Expired):
            await late
        assert await stayer == [6]

    assert run_on_loop(scenario) == [[0], [3]]


def test_of_several_in_one_turn_only_the_first_is_run_at_once() -> None:
    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        answers = [batcher.submit([item]) for item in range(4)]
        assert [answer.done() for answer in answers] == [True, False, False, False]
        assert await asyncio.gather(*answers) == [[0], [2], [4], [6]]

    assert run_on_loop(scenario) == [[0], [1, 2, 3]]


def test_closing_finishes_what_was_accepted_and_takes_nothing_new() -> None:
    async def scenario(batcher: LoopBatcher[int, int]) -> None:
        waiting = [batcher.submit([item]) for item in range(10)]
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            batcher.submit([1])
        await closing
        assert await asyncio.gather(*waiting) == [[2 * item] for item in range(10)]

    run_on_loop(scenario)


def test_a_backlog_runs_when_there_is_little_to_read_and_never_much_later() -> None:
    """Time is simulated: each turn of the loop lasts what the test says."""
    now_s, batches = 0.0, []

    def record(items: list[int]) -> list[int]:
        batches.append((round(now_s, 3), len(items)))
        return items

    async def scenario() -> None:
        nonlocal now_s
        batcher = LoopBatcher(record, 4, clock=lambda: now_s)
        backlog = [batcher.submit([item]) for item in range(20)]  # the first is run at once
        for turn_s in [0.01] * 5 + [0.0] * 6:
            now_s += turn_s
            await asyncio.sleep(0)
        assert await asyncio.gather(*backlog) == [[item] for item in range(20)]

    asyncio.run(scenario())
    times, sizes = zip(*batches, strict=True)
    assert sizes[:3] == (1, 4, 4)
    assert LoopBatcher.LONGEST_DEFERRAL_S <= times[1] <= LoopBatcher.LONGEST_DEFERRAL_S + 0.011
    assert times[-1] == 0.05
