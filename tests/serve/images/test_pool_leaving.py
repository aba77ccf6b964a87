"""serve.images.pool: calls that leave before their images are read."""

import asyncio

import pytest

from serve.images.pool import DecodePool
from tests.serve.images.pools import Shutter, image, play, read, until_idle


def test_a_caller_that_left_is_skipped_and_its_pixels_are_free_again() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        reads = [asyncio.create_task(read(pool, shutter, image(name), name)) for name in "123"]
        await asyncio.sleep(0.01)
        reads[1].cancel()
        shutter.open.set()
        assert (await reads[0], await reads[2]) == ("1", "3")

    assert play(scenario).read_images == ["1", "3"]


@pytest.mark.parametrize("turns", range(4))
def test_a_call_that_leaves_at_any_step_leaves_nothing_counted(turns: int) -> None:
    """`play` looks at the pixels that are pending; the next caller finds room."""

    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        for _ in range(5):
            leaving = asyncio.create_task(read(pool, shutter, image("1"), "a"))
            for _ in range(turns):
                await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        assert await read(pool, shutter, image("2"), "b") == "2"
        await until_idle(pool)

    play(scenario)


def test_a_call_that_leaves_while_it_waits_for_room_holds_up_nobody() -> None:
    async def scenario(pool: DecodePool, shutter: Shutter) -> None:
        shutter.open.clear()
        first = [asyncio.create_task(read(pool, shutter, image(name), "x")) for name in "ab"]
        await asyncio.sleep(0)
        leaving, staying = (
            asyncio.create_task(pool.read_all(shutter, [image(name)], "x", waits=True))  # type: ignore[arg-type]
            for name in "cd"
        )
        await asyncio.sleep(0.01)
        leaving.cancel()
        shutter.open.set()
        await asyncio.gather(*first, staying)

    assert sorted(play(scenario).read_images) == ["a", "b", "d"]
