"""serve.telemetry.http: GET and HEAD of a few paths; what is large, slow, odd or too much is turned away."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest

from serve.telemetry import http
from serve.telemetry.http import MOST_CONNECTIONS, MOST_HEAD_BYTES, HttpServer, Reply

ROUTES = {"/fine": lambda: Reply(b"fine\n"), "/busy": lambda: Reply(b"", HTTPStatus.SERVICE_UNAVAILABLE)}


def serve(scenario: Callable[[int], Awaitable[None]]) -> None:
    """Run a scenario beside a server on a port."""

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        server = HttpServer(listener, ROUTES)
        await server.start()
        await scenario(listener.getsockname()[1])
        await server.close()

    asyncio.run(main())


async def ask(port: int, request: bytes) -> bytes:
    """All that comes back for some bytes, up to the end of the connection; nothing if it is reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever the other end did to it."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /fine HTTP/1.1", 200, b"fine\n"),
        ("GET /fine?name=value HTTP/1.0", 200, b"fine\n"),
        ("HEAD /fine HTTP/1.1", 200, b""),
        ("GET /busy HTTP/1.1", 503, b""),
        ("GET /fine/../etc/passwd HTTP/1.1", 404, b"Not Found\n"),
        ("POST /fine HTTP/1.1", 405, b"Method Not Allowed\n"),
        ("GET http://elsewhere/ HTTP/1.1", 400, b"Bad Request\n"),
        ("GET /fine HTTP/2", 400, b"Bad Request\n"),
        ("\0\xff", 400, b"Bad Request\n"),
    ],
)
def test_a_request_gets_its_status(request_line: str, status: int, body: bytes) -> None:
    async def scenario(port: int) -> None:
        head, _, found = (await ask(port, request_line.encode() + b"\r\nHost: me\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Connection: close" in head
        assert found == body

    serve(scenario)


def test_a_head_says_how_long_the_body_would_be() -> None:
    async def scenario(port: int) -> None:
        assert b"Content-Length: 5\r\n" in await ask(port, b"HEAD /fine HTTP/1.1\r\n\r\n")

    serve(scenario)


def test_a_head_without_end_is_refused_at_its_bound() -> None:
    async def scenario(port: int) -> None:
        reply = await ask(port, b"GET /fine HTTP/1.1\r\nX: " + b"x" * MOST_HEAD_BYTES)
        assert reply.startswith(b"HTTP/1.1 431 ")

    serve(scenario)


def test_a_caller_that_sends_a_body_gets_its_answer_all_the_same() -> None:
    async def scenario(port: int) -> None:
        for _ in range(20):
            assert (await ask(port, b"POST /fine HTTP/1.1\r\n\r\n" + b"x" * 100_000)).startswith(b"HTTP/1.1 405 ")

    serve(scenario)


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for a tenth of a second."""
    monkeypatch.setattr(http, "REQUEST_S", 0.1)
    monkeypatch.setattr(http, "LINGER_S", 0.1)


@pytest.mark.usefixtures("short_times")
@pytest.mark.parametrize("begin", [b"", b"GET /fine HT", b"GET /fine HTTP/1.1\r\nHost: me\r\n"])
def test_a_request_that_is_not_complete_in_time_ends_its_connection(begin: bytes) -> None:
    async def scenario(port: int) -> None:
        async with asyncio.timeout(5):
            assert not await ask(port, begin)

    serve(scenario)


@pytest.mark.usefixtures("short_times")
def test_callers_that_hold_connections_open_do_not_keep_others_out() -> None:
    async def scenario(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * MOST_CONNECTIONS)]
        async with asyncio.timeout(5):
            while b"fine" not in await ask(port, b"GET /fine HTTP/1.1\r\n\r\n"):
                await asyncio.sleep(0.02)
        for _, writer in idle:
            await close(writer)

    serve(scenario)
