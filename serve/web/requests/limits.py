"""The bodies of requests, within bounds of size, of time, and of how many are held at once.

Enters: requests. Leaves: their bodies, decompressed, or an HttpError; what a function makes of a body.
Does not know: what a body holds.

A body that announces too many bytes is refused before it is read. One that announces nothing is refused as soon as it
has too many. What has come of all bodies is bounded, and so are the requests that are being answered.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from serve.web.failures import HttpError, invalid, refuse, too_large

MOST_HELD = 16
"""Bodies of the largest size that are held at once. The bound is on their bytes, so there may be many small ones."""
LARGE_BYTES = 64 * 2**10
"""Bytes of JSON or of a form above which they are parsed in a thread. Fewer take less time than the way there."""
WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib needs to know of each encoding."""
MOST_STREAMS = {"gzip": 16, "deflate": 1}
"""Compressed streams in one body. RFC 1952 allows several members in gzip; each one costs a copy of what follows it."""

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a caller may send."""

    max_bytes: int
    """Bytes of one body, also after it is decompressed."""
    timeout_s: float
    """Seconds within which a whole body has to come."""
    most_requests: int
    """Requests whose bodies have come that are being answered at once."""


class Bodies:
    """Reads the bodies of requests. Used on one event loop."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._requests = 0
        self._bytes = 0
        # One thread: a parsed body takes many times its bytes, so two are never parsed at once.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="parser")

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, which is counted until the end of the block. Raises HttpError."""
        self._check_size(int(request.headers.get("content-length", 0)))
        self._check_room()
        held = [0]
        try:
            received = await self._receive(request, held)
            body = self._decompress(received, request.headers.get("content-encoding", ""))
            self._hold(held, len(body))
            self._check_room()  # only now is a place taken: bodies that stall take none from others
            self._requests += 1
            try:
                yield body
            finally:
                self._requests -= 1
        finally:
            self._bytes -= held[0]

    async def parse(self, size: int, function: Callable[..., Parsed], *arguments: Any) -> Parsed:
        """What a function makes of a body, of which `size` bytes are JSON or a form.

        Many bytes are parsed in a thread, one body after the other, so that small requests are answered meanwhile.
        """
        if size <= LARGE_BYTES:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._parser, function, *arguments)

    async def _receive(self, request: Request, held: list[int]) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._bounds.timeout_s):
                async for part in request.stream():
                    size += len(part)
                    self._check_size(size)
                    self._hold(held, size)
                    parts.append(part)
        except TimeoutError:
            raise refuse(
                "DEADLINE_EXCEEDED",
                "REQUEST_STALLED",
                f"wanted the whole body within {self._bounds.timeout_s:g} s, got {size:,} bytes",
                HTTPStatus.REQUEST_TIMEOUT,
                {"Connection": "close"},
            ) from None
        except ClientDisconnect:
            raise refuse("CANCELLED", "CANCELLED", "the caller left before its request was complete") from None
        return b"".join(parts)

    def _hold(self, held: list[int], size: int) -> None:
        """Count the bytes of a body up to a size. Raises HttpError if all bodies together are too large."""
        more = max(0, size - held[0])
        if self._bytes + more > MOST_HELD * self._bounds.max_bytes:
            raise _busy(f"wanted at most {MOST_HELD * self._bounds.max_bytes:,} bytes under way, got more")
        self._bytes += more
        held[0] += more

    def _check_room(self) -> None:
        if self._requests >= self._bounds.most_requests:
            raise _busy(f"wanted at most {self._bounds.most_requests} requests under way, got one more")

    def _check_size(self, size: int) -> None:
        if size > self._bounds.max_bytes:
            raise too_large(f"wanted a body of at most {self._bounds.max_bytes:,} bytes, got {size:,} or more")

    def _decompress(self, body: bytes, encoding: str) -> bytes:
        encoding = encoding.strip().lower()
        if encoding in ("", "identity"):
            return body
        if encoding not in WINDOW_BITS:
            raise refuse(
                "INVALID_ARGUMENT",
                "REQUEST_UNREADABLE",
                "wanted a body as it is, or with the Content-Encoding gzip or deflate",
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            )
        return self._inflate(body, encoding)

    def _inflate(self, body: bytes, encoding: str) -> bytes:
        parts: list[bytes] = []
        size, rest = 0, body
        for _ in range(MOST_STREAMS[encoding]):
            stream = zlib.decompressobj(WINDOW_BITS[encoding])
            try:
                parts.append(stream.decompress(rest, self._bounds.max_bytes + 1 - size))
            except zlib.error:
                raise invalid(f"wanted a body in {encoding}, got one that is not") from None
            size += len(parts[-1])
            self._check_size(size)
            if not stream.eof:
                raise invalid(f"wanted a whole body in {encoding}, got one that ends too early")
            rest = stream.unused_data
            if not rest:
                return b"".join(parts)
        most = MOST_STREAMS[encoding]
        raise invalid(f"wanted no bytes after stream {most} of {encoding} in the body, got {len(rest):,}")


def _busy(message: str) -> HttpError:
    return refuse("RESOURCE_EXHAUSTED", "OVERLOADED", message)
