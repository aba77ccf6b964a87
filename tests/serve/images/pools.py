"""A pool of decoding threads with a reader that a test can hold shut."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve.images.pool import DecodePool
from tests.serve.images.test_decode import ihdr

SIDE = 100
PIXELS = SIDE * SIDE


class Shutter:
    """A reader that notes what it reads, and can be held shut."""

    def __init__(self) -> None:
        self.read_images: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def read(self, image: bytes) -> Any:
        """The name that stands at the end of the image."""
        assert self.open.wait(10)
        self.read_images.append(image[-1:].decode())
        return image[-1:].decode()


def image(name: str, side: int = SIDE) -> bytes:
    """The beginning of a PNG that announces a size, with a name at its end."""
    return b"\x89PNG\r\n\x1a\n" + ihdr(side, side) + name.encode()


async def read(pool: DecodePool, shutter: Shutter, image: bytes, client: str) -> Any:
    """The one image of a call, read."""
    (found,) = await pool.read_all(shutter, [image], client)  # type: ignore[arg-type]  # it reads as a reader does
    return found


async def until_idle(pool: DecodePool) -> None:
    """Wait for what threads still read for callers that left; it is not counted for ever."""
    async with asyncio.timeout(10):
        while pool.pending_pixels:
            await asyncio.sleep(0.001)


def play(
    scenario: Callable[[DecodePool, Shutter], Awaitable[None]],
    threads: int = 1,
    max_pending_pixels: int = 4 * PIXELS,
    max_pixels: int = 100 * PIXELS,
) -> Shutter:
    """Run a scenario with a pool; at the end nothing may be pending."""
    shutter = Shutter()

    async def main() -> None:
        with ThreadPoolExecutor(threads) as executor:
            pool = DecodePool(executor, threads, max_pending_pixels, max_pixels)
            try:
                await scenario(pool, shutter)
                assert pool.pending_pixels == 0
            finally:
                shutter.open.set()

    asyncio.run(main())
    return shutter
