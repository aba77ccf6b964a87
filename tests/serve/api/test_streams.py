"""serve.api.streams: requests that end, and answers in the order of their requests, without a connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from serve.api.streams import Requests, answer_in_order

Answer = Callable[[int, asyncio.Event], Awaitable[int]]


async def count_to(end: int, taken: list[int] | None = None) -> AsyncIterator[int]:
    for number in range(end):
        if taken is not None:
            taken.append(number)
        yield number


async def work(number: int, admitted: asyncio.Event) -> int:
    """Later ones are done sooner."""
    admitted.set()
    await asyncio.sleep(0.02 / (1 + number))
    return number * 10


def test_answers_come_in_the_order_of_the_requests() -> None:
    async def main() -> list[int]:
        return [reply async for reply in answer_in_order(count_to(20), work, 5)]

    assert asyncio.run(main()) == [10 * number for number in range(20)]


def test_no_more_than_a_window_is_begun_before_an_answer_is_taken() -> None:
    async def main() -> tuple[int, int]:
        taken: list[int] = []
        async with aclosing(answer_in_order(count_to(100, taken), work, 5)) as replies:
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

        async def wait_for_room(number: int, admitted: asyncio.Event) -> int:
            await asyncio.sleep(3600)
            return number

        async with aclosing(answer_in_order(count_to(100, taken), wait_for_room, 5)) as replies:
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

        replies = answer_in_order(break_off(), work, 5)
        found = [await anext(replies), await anext(replies)]
        with pytest.raises(ValueError, match="no message"):
            await anext(replies)
        return found

    assert asyncio.run(main()) == [10, 20]


def test_closing_ends_what_is_under_way() -> None:
    async def main() -> tuple[int, int]:
        ended = []

        async def wait(number: int, admitted: asyncio.Event) -> int:
            admitted.set()
            try:
                await asyncio.sleep(3600 * min(number, 1))
            finally:
                ended.append(number)
            return number

        async with aclosing(answer_in_order(count_to(100), wait, 5)) as replies:
            assert await anext(replies) == 0
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        return len(ended), len(asyncio.all_tasks())

    ended, tasks = asyncio.run(main())
    assert ended > 1
    assert tasks == 1


def test_requests_end_when_the_caller_has_no_more() -> None:
    async def main() -> tuple[list[int | None], bool]:
        coming: list[int | None] = [1, 2, None]

        async def read() -> int | None:
            return coming.pop(0)

        requests = Requests(read)
        found = [request async for request in requests] + [request async for request in requests]
        requests.stop()
        return found, requests.is_stopped

    assert asyncio.run(main()) == ([1, 2], False)


@pytest.mark.parametrize("waits", [True, False], ids=["while one waits", "between two"])
def test_a_stop_ends_requests_as_if_the_last_had_come(waits: bool) -> None:
    async def main() -> tuple[list[int], bool]:
        coming: asyncio.Queue[int | None] = asyncio.Queue()
        requests, found = Requests(coming.get), []

        async def collect() -> None:
            async for request in requests:
                found.append(request)  # noqa: PERF401  # what was found before the stop is wanted

        coming.put_nowait(1)
        if not waits:
            assert await anext(requests) == 1
            requests.stop()
        task = asyncio.create_task(collect())
        await asyncio.sleep(0.01)
        if waits:
            requests.stop()
        await asyncio.wait_for(task, 1)
        return found, requests.is_stopped

    assert asyncio.run(main()) == ([1] if waits else [], True)


def test_a_call_that_is_cancelled_while_it_stops_is_cancelled() -> None:
    async def main() -> bool:
        requests: Requests[int] = Requests(asyncio.Queue[int | None]().get)
        task = asyncio.ensure_future(anext(requests))
        await asyncio.sleep(0.01)
        requests.stop()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
