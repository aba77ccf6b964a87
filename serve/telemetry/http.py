"""A small HTTP server for what operators and orchestrators ask: a few paths, each answered from memory.

Enters: paths, each with a function that answers it. Leaves: answers to GET and HEAD, one a connection.
Does not know: what is asked for, metrics, workers.

It takes only what a probe or a scraper sends: a head of at most MOST_HEAD_BYTES that is there within REQUEST_S.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

MOST_HEAD_BYTES = 8192
"""Bytes of a request's first line and its headers."""
REQUEST_S = 5.0
"""Seconds that a connection may take for its request, and again for reading the answer."""
LINGER_S = 1.0
"""Seconds for which a connection stays open after its answer, until its caller closes it."""
MOST_CONNECTIONS = 64
"""Connections at a time; a further one is closed at once."""

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.[01]")


class Reply(NamedTuple):
    """What a path answers."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


Routes = Mapping[str, Callable[[], Reply]]
"""Path -> what answers it, on the event loop."""


class HttpServer:
    """Answers the paths of `routes` on a socket that listens."""

    def __init__(self, listener: socket.socket, routes: Routes) -> None:
        self._listener = listener
        self._routes = routes
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=MOST_HEAD_BYTES)

    async def close(self) -> None:
        """Listen no longer, and end all connections."""
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            await self._answer(reader, writer)
        except (TimeoutError, ConnectionError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, reply = await self._read(reader)
        head = (
            f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\nContent-Type: {reply.content_type}\r\n"
            f"Content-Length: {len(reply.body)}\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + (b"" if method == b"HEAD" else reply.body))
        async with asyncio.timeout(REQUEST_S):
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(LINGER_S):
            # What the caller still sends is read: closing on unread bytes would reset the connection, and the caller
            # would lose the answer.
            while await reader.read(MOST_HEAD_BYTES):
                pass

    async def _read(self, reader: asyncio.StreamReader) -> tuple[bytes, Reply]:
        """The method of a request, and the reply to it."""
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return b"", _refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the caller left") from error
        found = _REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0])
        if not found:
            return b"", _refuse(HTTPStatus.BAD_REQUEST)
        method, target = found.groups()
        if method not in (b"GET", b"HEAD"):
            return method, _refuse(HTTPStatus.METHOD_NOT_ALLOWED)
        answer = self._routes.get(target.partition(b"?")[0].decode())
        return method, answer() if answer else _refuse(HTTPStatus.NOT_FOUND)


def _refuse(status: HTTPStatus) -> Reply:
    return Reply(f"{status.phrase}\n".encode(), status)
