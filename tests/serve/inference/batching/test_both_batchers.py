"""Both batchers: who is run at once and who is queued, how a failure reaches its caller, what a close lets go."""

import asyncio
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serve.errors import Draining, Expired
from serve.inference.batching.batcher import Batcher, OnNeverRun, ignore
from serve.inference.batching.loop_batcher import LoopBatcher
from serve.inference.batching.thread_batcher import ThreadBatcher

Run = Callable[[list[int]], list[int]]
MAX_BATCH = 30


def make_loop_batcher(run: Run, on_never_run: OnNeverRun = ignore) -> Batcher[int, int]:
    return LoopBatcher(run, MAX_BATCH, on_never_run=on_never_run)


def make_thread_batcher(run: Run, on_never_run: OnNeverRun = ignore) -> Batcher[int, int]:
    """One that runs a single item on the event loop, too."""
    return ThreadBatcher(run, MAX_BATCH, single_at_once=True, on_never_run=on_never_run)


Make = Callable[..., Batcher[int, int]]
BOTH = pytest.mark.parametrize("make", [make_loop_batcher, make_thread_batcher], ids=["loop", "thread"])


def double(items: list[int]) -> list[int]:
    """Twice each item; 13 fails the whole run."""
    if 13 in items:
        raise ValueError("13")
    return [2 * item for item in items]


def play(batcher_of: Callable[[], Batcher[int, int]], scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario with a batcher that is closed at the end."""

    async def main() -> None:
        batcher = batcher_of()
        async with asyncio.timeout(20):
            await scenario(batcher)
            await batcher.close()

    asyncio.run(main())


@BOTH
def test_a_single_item_is_not_run_before_what_waits_already(make: Make) -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        first, second = batcher.submit([1, 2]), batcher.submit([3])
        assert not second.done()
        assert (await first, await second) == ([2, 4], [6])

    play(lambda: make(double), scenario)


@BOTH
def test_a_single_item_that_fails_fails_its_caller_alone(make: Make) -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        with pytest.raises(ValueError, match="13"):
            batcher.submit([13]).result()  # at once, without an iteration of the loop
        await asyncio.sleep(0)
        assert batcher.submit([1]).result() == [2]

    play(lambda: make(double), scenario)


@BOTH
def test_a_single_item_that_is_late_already_is_not_run(make: Make) -> None:
    ran: list[int] = []

    async def scenario(batcher: Batcher[int, int]) -> None:
        with pytest.raises(Expired, match=r"^the call's deadline passed before its turn came$"):
            await batcher.submit([1], deadline_s=time.monotonic() - 1)
        assert await batcher.submit([2], deadline_s=time.monotonic() + 60) == [4]

    def record(items: list[int]) -> list[int]:
        ran.extend(items)
        return double(items)

    play(lambda: make(record), scenario)
    assert ran == [2]


@BOTH
def test_after_a_batch_of_thirty_about_thirty_of_one_count_as_single_again(make: Make) -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        await batcher.submit([1] * 30)
        queued = 0
        while not (answer := batcher.submit([1])).done():
            assert await answer == [2]
            await asyncio.sleep(0)
            queued += 1
        assert 27 <= queued <= 30

    play(lambda: make(double), scenario)


@BOTH
def test_a_group_that_failed_or_that_is_answered_does_not_count_as_never_run(make: Make) -> None:
    told: list[tuple[int, bool]] = []

    async def scenario(batcher: Batcher[int, int]) -> None:
        failed, answered = batcher.submit([13] + [1] * MAX_BATCH), batcher.submit([1, 2])
        with pytest.raises(ValueError, match="13"):
            await failed
        assert await answered == [2, 4]

    play(lambda: make(double, lambda count, is_late: told.append((count, is_late))), scenario)
    assert told == []


@BOTH
def test_a_caller_that_leaves_as_its_deadline_passes_is_no_error_of_the_loop(make: Make) -> None:
    faults: list[dict[str, Any]] = []
    late: list[asyncio.Future[list[int]]] = []

    async def scenario(batcher: Batcher[int, int]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        late.append(batcher.submit([1, 2], deadline_s=time.monotonic() - 1))
        await asyncio.wait(late)
        assert await batcher.submit([3, 4]) == [6, 8]

    play(lambda: make(double, lambda *_: late[0].get_loop().call_soon_threadsafe(late[0].cancel)), scenario)
    assert faults == []


@BOTH
def test_a_closed_batcher_takes_nothing_and_lets_go_of_what_it_ran(make: Make) -> None:
    class Model:
        """What a model's `run` belongs to."""

        def run(self, items: list[int]) -> list[int]:
            return items

    async def main() -> None:
        model = Model()
        batcher, is_alive = make(model.run), weakref.ref(model)
        assert await batcher.submit([1]) == [1]
        await batcher.close()
        await batcher.close()
        del model
        assert is_alive() is None
        with pytest.raises(Draining, match=r"^the server is stopping and takes no new work$"):
            batcher.submit([1])

    asyncio.run(main())


def test_a_queue_delay_that_passes_runs_what_has_come() -> None:
    batches: list[list[int]] = []

    async def scenario(batcher: Batcher[int, int]) -> None:
        start_s = time.monotonic()
        assert await asyncio.gather(batcher.submit([1]), batcher.submit([2])) == [[1], [2]]
        assert 0.05 <= time.monotonic() - start_s < 10

    def record(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    play(lambda: ThreadBatcher(record, 4, max_queue_delay_us=50_000), scenario)
    assert batches == [[1, 2]]


def test_without_a_queue_delay_nobody_waits_for_company() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        start_s = time.monotonic()
        for _ in range(10):
            await batcher.submit([1])
        assert time.monotonic() - start_s < 5

    play(lambda: ThreadBatcher(double, 4), scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_the_thread_of_a_batcher_is_behind_the_event_loop() -> None:
    def find_niceness(items: list[int]) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, threading.get_native_id())]

    async def scenario(batcher: Batcher[int, int]) -> None:
        loop = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        assert await batcher.submit([1]) == [min(loop + 5, 19)]

    play(lambda: ThreadBatcher(find_niceness, 4), scenario)


def test_an_exactly_full_batch_is_run_at_once_also_after_a_slow_iteration() -> None:
    """Only more than a batch lets new requests be read first."""
    now_s = 0.0

    async def scenario() -> None:
        nonlocal now_s
        batcher = LoopBatcher(double, 4, clock=lambda: now_s)
        full = batcher.submit([1, 2, 3, 4])
        now_s += 0.01
        await asyncio.sleep(0)
        assert full.done()
        await batcher.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", [LoopBatcher, ThreadBatcher])
@pytest.mark.parametrize("items", [[1], [1, 2]], ids=["single", "group"])
def test_a_deadline_has_passed_at_its_very_moment(kind: type[Any], items: list[int]) -> None:
    async def main() -> None:
        batcher = kind(double, MAX_BATCH, clock=lambda: 7.0)
        with pytest.raises(Expired):
            await asyncio.wait_for(batcher.submit(items, deadline_s=7.0), 5)
        assert len(await batcher.submit(items, deadline_s=7.5)) == len(items)
        await batcher.close()

    asyncio.run(main())
