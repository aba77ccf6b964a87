"""serve.images.pool: large images are bounded by pixels and decoded in turns by client."""

import asyncio
import threading
from typing import Any

import pytest

from serve.errors import Overloaded
from serve.images.pool import DecodePool
from tests.serve.images.pools import PIXELS, SIDE, Shutter, image, play, read


def test_clients_take_turns_whatever_each_has_sent() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        sent = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("c", "5")]
        reads = [asyncio.create_task(read(pool, shutter, image(name), client)) for client, name in sent]
        await asyncio.sleep(0.01)
        shutter.open.set()
        assert await asyncio.gather(*reads) == ["1", "2", "3", "4", "5"]

    assert play(scenario, max_pending_pixels=100 * PIXELS).read_images == ["1", "2", "4", "5", "3"]


def test_more_pixels_than_may_wait_are_refused_at_once() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        reads = [asyncio.create_task(read(pool, shutter, image("x"), client)) for client in "abcd"]
        await asyncio.sleep(0.01)
        assert pool.pending_pixels == 4 * PIXELS
        with pytest.raises(Overloaded):
            await read(pool, shutter, image("y"), "e")
        shutter.open.set()
        await asyncio.gather(*reads)
        assert await read(pool, shutter, image("y"), "e") == "y"

    play(scenario)


def test_one_client_fills_half_of_the_bound_and_leaves_the_rest_to_others() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        reads = [asyncio.create_task(read(pool, shutter, image("x"), "a")) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await read(pool, shutter, image("y"), "a")
        reads.append(asyncio.create_task(read(pool, shutter, image("z"), "b")))
        await asyncio.sleep(0.01)
        shutter.open.set()
        assert await asyncio.gather(*reads) == ["x", "x", "z"]

    play(scenario)


def test_an_image_beyond_the_bound_is_read_when_nothing_else_waits() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        assert await read(pool, shutter, image("x", 2 * SIDE), "a") == "x"

    play(scenario, max_pending_pixels=PIXELS)


def test_as_many_images_are_read_at_a_time_as_there_are_threads() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        barrier = threading.Barrier(2, timeout=10)

        class Meeting(Shutter):
            def read(self, image: bytes) -> Any:
                barrier.wait()
                return super().read(image)

        both = Meeting()
        reads = (read(pool, both, image(name), "a") for name in "12")
        assert await asyncio.gather(*reads) == ["1", "2"]

    play(scenario, threads=2)


def test_the_images_of_one_call_wait_for_each_other_and_are_not_refused() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        images = [image(name, 2 * SIDE) for name in "1234"]
        assert await pool.read_all(shutter, images, "a") == ["1", "2", "3", "4"]  # type: ignore[arg-type]

    play(scenario, threads=2)


def test_a_call_that_is_refused_takes_nothing_with_it() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        reads = [asyncio.create_task(read(pool, shutter, image("x"), client)) for client in "abcd"]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await pool.read_all(shutter, [image("1"), image("2")], "e")  # type: ignore[arg-type]
        shutter.open.set()
        await asyncio.gather(*reads)

    assert play(scenario).read_images == ["x"] * 4


def test_a_call_that_may_wait_for_room_is_read_once_there_is_some() -> None:
    """Where another is refused; several wait at the same time, one of them larger than the bound."""

    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        first = [asyncio.create_task(read(pool, shutter, image(name), "x")) for name in "ab"]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await read(pool, shutter, image("c"), "x")
        waiting = [
            asyncio.create_task(pool.read_all(shutter, [image(name, side)], "x", waits=True))  # type: ignore[arg-type]
            for name, side in (("d", SIDE), ("e", 3 * SIDE), ("f", SIDE))
        ]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        shutter.open.set()
        await asyncio.gather(*first, *waiting)

    assert sorted(play(scenario).read_images) == ["a", "b", "d", "e", "f"]


def test_the_first_small_image_of_a_client_is_read_whatever_the_others_fill() -> None:
    """Otherwise it would have to win a race for room against all that is tried again and again."""

    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        reads = [asyncio.create_task(read(pool, shutter, image("x", 7 * SIDE), client)) for client in "ab"]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await read(pool, shutter, image("y", 2 * SIDE), "c")
        reads.append(asyncio.create_task(read(pool, shutter, image("z"), "c")))
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await read(pool, shutter, image("y"), "c")
        shutter.open.set()
        assert await asyncio.gather(*reads) == ["x", "x", "z"]

    play(scenario, max_pending_pixels=98 * PIXELS, max_pixels=100 * PIXELS)


def test_one_image_fills_no_more_than_the_share_of_its_client() -> None:
    """A WebP counts twice; two of the largest would otherwise leave no room for anybody."""

    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        reads = [asyncio.create_task(read(pool, shutter, image("x", 2 * SIDE), client)) for client in "ab"]
        await asyncio.sleep(0.01)
        assert pool.pending_pixels == 4 * PIXELS
        shutter.open.set()
        assert await asyncio.gather(*reads) == ["x", "x"]

    play(scenario)


@pytest.mark.parametrize("bound", [1, 2])
def test_the_least_bound_reads_one_image_after_another(bound: int) -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        reads = [asyncio.create_task(read(pool, shutter, image("x"), client)) for client in "a"]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await read(pool, shutter, image("y"), "a")
        shutter.open.set()
        assert await asyncio.gather(*reads) == ["x"]

    play(scenario, max_pending_pixels=bound)
