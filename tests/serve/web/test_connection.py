"""serve.web.listening.connection: callers that do not read, before a real server of uvicorn."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra [web]")

import uvicorn

from serve.web.listening import connection
from serve.web.listening.connection import BoundedConnection
from serve.web.listening.server import DoorServer
from tests.served import wait_until

UNREAD_S = 1.0
LARGE_BYTES, SMALL_BYTES = 2**20, 2**14
KERNEL_BYTES = 2**16
"""Bytes that the kernel keeps of each side of a connection, or twice as many."""


@dataclass(frozen=True)
class Running:
    """A server in a thread."""

    server: uvicorn.Server
    thread: threading.Thread
    port: int

    @property
    def connections(self) -> list[Any]:
        """Those that it has."""
        return list(self.server.server_state.connections)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """A large response, or a small one."""
    body = bytes(SMALL_BYTES if scope["path"] == "/small" else LARGE_BYTES)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server whose callers have to read within a second."""
    monkeypatch.setattr(connection, "UNREAD_S", UNREAD_S)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
    server = DoorServer(
        uvicorn.Config(answer, http=BoundedConnection, lifespan="off", log_config=None, timeout_keep_alive=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert wait_until(lambda: server.started)
    yield Running(server, thread, listener.getsockname()[1])
    server.should_exit = server.force_exit = True
    thread.join(30)


def get(path: str = "/", *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


@contextmanager
def connect(running: Running) -> Iterator[socket.socket]:
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        caller.settimeout(30)
        caller.connect(("127.0.0.1", running.port))
        yield caller


def test_a_caller_that_pipelines_and_never_reads_loses_its_connection(running: Running) -> None:
    with connect(running) as caller:
        start_s = time.monotonic()
        caller.sendall(get() * 100)
        assert wait_until(lambda: len(running.connections) == 1)
        assert wait_until(lambda: not running.connections, 10 * UNREAD_S)
        assert time.monotonic() - start_s >= UNREAD_S


def test_a_caller_that_never_reads_does_not_delay_a_stop_for_ever(running: Running) -> None:
    with connect(running) as caller:
        caller.sendall(get() * 100)
        assert wait_until(lambda: len(running.connections) == 1)
        running.server.should_exit = True
        running.thread.join(10 * UNREAD_S)
        assert not running.thread.is_alive()


@pytest.mark.parametrize("last", [b"", get("/small", "Connection: close")], ids=["idle", "closing"])
def test_a_closed_connection_does_not_wait_for_its_caller_to_read(running: Running, last: bytes) -> None:
    """So little is unread that the server may still write; the connection closes as idle, or as asked for."""
    with connect(running) as caller:
        unread_bytes = 0
        while not unread_bytes:
            caller.sendall(get("/small"))
            time.sleep(0.05)
            unread_bytes = running.connections[0].transport.get_write_buffer_size()
        caller.sendall(last)
        assert unread_bytes <= SMALL_BYTES + 1000
        assert wait_until(lambda: not running.connections, 10 * UNREAD_S)


def test_a_caller_that_reads_after_a_while_gets_every_response(running: Running) -> None:
    """It pauses three times, for less than the limit each time and for more than it in all."""
    received_bytes = 0
    with connect(running) as caller:
        caller.sendall(get() * 3)
        for count in (1, 2, 3):
            time.sleep(UNREAD_S / 2)
            while received_bytes < count * LARGE_BYTES:
                received_bytes += len(caller.recv(KERNEL_BYTES))
    assert received_bytes >= 3 * LARGE_BYTES
