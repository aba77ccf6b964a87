"""Both batchers tell how many items never run, and whether their callers left or were too late."""

import asyncio
import time
from collections.abc import Callable

import pytest

from serve.errors import Expired
from serve.inference.batching.batcher import Batcher, OnNeverRun
from serve.inference.batching.loop_batcher import LoopBatcher
from serve.inference.batching.thread_batcher import ThreadBatcher

Make = Callable[[OnNeverRun], Batcher[int, int]]


def run(items: list[int]) -> list[int]:
    """Each item, after a while in which others come."""
    time.sleep(0.01)
    return items


MAKERS: list[Make] = [
    lambda on_never_run: LoopBatcher(run, 4, on_never_run=on_never_run),
    lambda on_never_run: ThreadBatcher(run, 4, on_never_run=on_never_run),
]


@pytest.mark.parametrize("make", MAKERS, ids=["loop", "thread"])
def test_what_its_caller_left_or_was_too_late_for_is_told_once(make: Make) -> None:
    told: list[tuple[int, bool]] = []

    async def main() -> None:
        batcher = make(lambda count, is_late: told.append((count, is_late)))
        first = batcher.submit([0, 1, 2, 3])
        left = batcher.submit([4, 5, 6])
        late = batcher.submit([7, 8], deadline_s=time.monotonic() - 1)
        left.cancel()
        last = batcher.submit([9])
        assert await first == [0, 1, 2, 3]
        with pytest.raises(Expired):
            await late
        assert await last == [9]
        await batcher.close()

    asyncio.run(main())
    assert told == [(3, False), (2, True)]


@pytest.mark.parametrize("make", MAKERS, ids=["loop", "thread"])
def test_of_a_group_that_takes_several_batches_only_the_rest_never_runs(make: Make) -> None:
    told: list[tuple[int, bool]] = []

    async def main() -> None:
        batcher = make(lambda count, is_late: told.append((count, is_late)))
        group = batcher.submit(range(10))
        # Cancelled while its first batch runs, or right after: never all ten are left.
        asyncio.get_running_loop().call_later(0.001, group.cancel)
        with pytest.raises(asyncio.CancelledError):
            await group
        await batcher.close()

    asyncio.run(main())
    ((count, is_late),) = told
    assert count in (2, 6)
    assert not is_late
