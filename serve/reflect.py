"""grpc.reflection.v1alpha for a server that stops: a stream ends with it.

Enters: what the library's reflection service gets. Leaves: what it answers. Does not know: what is served.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from grpc_reflection.v1alpha import reflection


class Reflection(reflection.aio.ReflectionServicer):
    """The library's, whose streams stay open for as long as their callers like, and held up a stop for its grace."""

    def __init__(self, service_names: tuple[str, ...]) -> None:
        super().__init__(service_names)
        self._ended = asyncio.Event()

    async def ServerReflectionInfo(  # type: ignore[override]  # noqa: N802  # the .proto's; its types want a coroutine
        self, requests: AsyncIterable[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Answer each request, until the caller has no more or the server stops."""
        replies: Any = super().ServerReflectionInfo(self._until_ended(requests), context)
        async for reply in replies:
            yield reply

    async def _until_ended(self, requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
        stream, ended = aiter(requests), asyncio.create_task(self._ended.wait())
        try:
            while not ended.done():
                coming = asyncio.ensure_future(anext(stream, None))
                await asyncio.wait((coming, ended), return_when=asyncio.FIRST_COMPLETED)
                request = coming.result() if coming.done() else None
                coming.cancel()
                if request is None:
                    return
                yield request
        finally:
            ended.cancel()

    def end(self) -> None:
        """Take no more requests."""
        self._ended.set()
