"""serve.client.streams: images are read as they come, a window ahead of their answers and no further."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, closing

import pytest

from serve.client import AsyncClient, Client
from serve.client.streams.unanswered import WINDOW
from tests.serve.client.streams.scripted import Scripted, name
from tests.serve.client.streams.test_streams import KINDS, collect
from tests.served import wait_until


def test_images_that_take_their_time_are_waited_for(start: Callable[..., Scripted]) -> None:
    def draw() -> Iterator[bytes]:
        for image in name(2):
            time.sleep(1.5)
            yield image

    assert len(collect(Client, start().address, draw(), timeout_s=1)) == 2


def test_images_that_take_their_time_are_waited_for_by_tasks(start: Callable[..., Scripted]) -> None:
    async def draw() -> AsyncIterator[bytes]:
        for image in name(2):
            await asyncio.sleep(1.5)
            yield image

    async def run() -> int:
        async with AsyncClient(start().address, timeout_s=1) as client:
            return len([outcome async for outcome in client.classify_stream(draw())])

    assert asyncio.run(run()) == 2


@KINDS
def test_a_failure_to_read_an_image_comes_after_the_answers(start: Callable[..., Scripted], kind: type) -> None:
    def draw() -> Iterator[bytes]:
        yield from name(20)
        raise OSError("no such file")

    taken = []

    async def take_in_tasks(address: str) -> None:
        async with AsyncClient(address) as client:
            async for number, _ in client.classify_stream(draw()):
                taken.append(number)

    def take(address: str) -> None:
        with Client(address) as client:
            taken.extend(number for number, _ in client.classify_stream(draw()))

    address = start().address
    with pytest.raises(OSError, match="no such file"):
        take(address) if kind is Client else asyncio.run(take_in_tasks(address))
    assert taken == list(range(20))


class Endless:
    """Images without end, which are counted."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.count += 1
        return b"image"


def test_no_more_is_read_ahead_than_a_window(start: Callable[..., Scripted]) -> None:
    images, before = Endless(), threading.active_count()
    with Client(start().address) as client, closing(client.classify_stream(images)) as outcomes:  # type: ignore[type-var]
        for _ in range(5):
            next(outcomes)
        assert wait_until(lambda: images.count >= WINDOW)
        time.sleep(0.2)
        assert images.count <= WINDOW + 5 + 1
    assert wait_until(lambda: threading.active_count() <= before + 8)  # the threads of the server's pool
    read = images.count
    time.sleep(0.1)
    assert images.count == read


def test_no_more_is_read_ahead_than_a_window_by_tasks(start: Callable[..., Scripted]) -> None:
    images = Endless()

    async def run() -> int:
        async with AsyncClient(start().address) as client:
            async with aclosing(client.classify_stream(images)) as outcomes:  # type: ignore[type-var]
                for _ in range(5):
                    await anext(outcomes)
                await asyncio.sleep(0.3)
                read = images.count
            await asyncio.sleep(0.1)
            assert images.count == read
            assert len(asyncio.all_tasks()) == 1
            return read

    assert WINDOW <= asyncio.run(run()) <= WINDOW + 5 + 1


@KINDS
def test_the_next_image_may_depend_on_the_last_answer(start: Callable[..., Scripted], kind: type) -> None:
    """An answer is given out before the next image is there."""

    async def run(address: str) -> list[int]:
        taken, free = [], asyncio.Event()

        async def draw() -> AsyncIterator[bytes]:
            for image in name(5):
                yield image
                await free.wait()
                free.clear()

        async with AsyncClient(address) as client:
            async for number, _ in client.classify_stream(draw()):
                taken.append(number)
                free.set()
        return taken

    def run_in_threads(address: str) -> list[int]:
        taken, free = [], threading.Semaphore(0)

        def draw() -> Iterator[bytes]:
            for image in name(5):
                yield image
                free.acquire(timeout=10)

        with Client(address) as client:
            for number, _ in client.classify_stream(draw()):
                taken.append(number)
                free.release()
        return taken

    address = start().address
    assert (run_in_threads(address) if kind is Client else asyncio.run(run(address))) == list(range(5))
