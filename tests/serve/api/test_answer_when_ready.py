"""serve.api.inkling_v1: answers as they are ready, without a connection."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from serve.api.inkling_v1 import answer_when_ready


async def count_to(end: int, taken: list[int] | None = None) -> AsyncIterator[int]:
    for each in range(end):
        if taken is not None:
            taken.append(each)
        yield each


async def work(place: int, admitted: asyncio.Event) -> int:
    """Later ones are done sooner."""
    admitted.set()
    await asyncio.sleep(0.5 - 0.1 * place)
    return place


def test_answers_come_in_the_order_in_which_they_are_ready() -> None:
    async def main() -> list[int]:
        return [reply async for reply in answer_when_ready(count_to(5), work, 5)]

    assert asyncio.run(main()) == [4, 3, 2, 1, 0]


def test_no_more_than_a_window_is_begun_before_an_answer_is_taken() -> None:
    async def main() -> tuple[int, int]:
        taken: list[int] = []

        async def answer(place: int, admitted: asyncio.Event) -> int:
            admitted.set()
            return place

        async with aclosing(answer_when_ready(count_to(100, taken), answer, 5)) as replies:
            await anext(replies)
            await asyncio.sleep(0.1)
            first = len(taken)
            for _ in range(10):
                await anext(replies)
            await asyncio.sleep(0.1)
            return first, len(taken)

    first, later = asyncio.run(main())
    assert first <= 5 + 1
    assert later == first + 10


def test_nothing_is_read_while_a_request_waits_for_room() -> None:
    async def main() -> list[int]:
        taken: list[int] = []

        async def wait_for_room(place: int, admitted: asyncio.Event) -> int:
            await asyncio.sleep(3600)
            return place

        async with aclosing(answer_when_ready(count_to(100, taken), wait_for_room, 5)) as replies:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(replies), 0.1)
        return taken

    assert asyncio.run(main()) == [0]


def test_a_failure_to_read_comes_after_the_answers_before_it() -> None:
    async def main() -> list[int]:
        async def break_off() -> AsyncIterator[int]:
            yield 1
            yield 2
            raise ValueError("no message")

        replies = answer_when_ready(break_off(), work, 5)
        found = [await anext(replies), await anext(replies)]
        with pytest.raises(ValueError, match="no message"):
            await anext(replies)
        return found

    assert asyncio.run(main()) == [2, 1]


def test_closing_ends_what_is_under_way() -> None:
    async def main() -> tuple[list[int], int]:
        ended: list[int] = []

        async def wait(place: int, admitted: asyncio.Event) -> int:
            admitted.set()
            try:
                await asyncio.sleep(3600 * min(place, 1))
            finally:
                ended.append(place)
            return place

        async with aclosing(answer_when_ready(count_to(100), wait, 5)) as replies:
            assert await anext(replies) == 0
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        return sorted(ended), len(asyncio.all_tasks())

    assert asyncio.run(main()) == ([0, 1, 2, 3, 4, 5], 1)


def test_a_failure_to_read_that_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def break_off() -> AsyncIterator[int]:
            yield 0
            raise ValueError("no message")

        async with aclosing(answer_when_ready(break_off(), work, 5)) as replies:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(replies), 0.1)

    asyncio.run(main())
    gc.collect()
    assert not caplog.records
