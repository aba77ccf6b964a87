"""Bounds of size, time and number: slow callers, callers that leave, and a server with no room."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serve.web.listening.connection import HEAD_S
from serve.web.requests.limits import MOST_HELD
from tests.serve.web.doors import Door, ask, is_complete, open_door
from tests.served import wait_until
from tests.support import Png, RunningServer

PATH = "/v1/models/bands:classify"


@contextmanager
def connect(door: Door) -> Iterator[socket.socket]:
    host, _, port = urlsplit(door.url).netloc.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        yield connection


def post(length: int, *lines: str) -> bytes:
    head = [f"POST {PATH} HTTP/1.1", "Host: a", f"Content-Length: {length}", *lines, "", ""]
    return "\r\n".join(head).encode()


def count_waiting(server: RunningServer) -> int:
    """Images that a server has and has not answered."""
    return sum(server.server.read_state().waiting_images.values())


def read(connection: socket.socket) -> bytes:
    received = b""
    while not is_complete(received) and (piece := connection.recv(65536)):
        received += piece
    return received


def test_a_body_that_announces_too_much_is_refused_before_it_comes(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(post(300_001))
        assert read(connection).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_chunks_is_refused_once_it_is_too_large(door: Door) -> None:
    with connect(door) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(4):
            connection.sendall(b"18000\r\n" + bytes(0x18000) + b"\r\n")
        assert read(connection).startswith(b"HTTP/1.1 413 ")


def test_the_rest_of_a_refused_body_is_not_read_for_ever(door: Door) -> None:
    start_s = time.monotonic()
    with connect(door) as connection:
        connection.sendall(post(10**9))
        read(connection)
        with suppress(ConnectionError):
            while time.monotonic() < start_s + 30:
                connection.sendall(bytes(65536))
                time.sleep(0.02)
    assert time.monotonic() - start_s < 10


def test_a_body_that_stalls_gets_a_408_in_time(door: Door) -> None:
    start_s = time.monotonic()
    with connect(door) as connection:
        connection.sendall(post(1000) + b"abc")
        received = read(connection)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"within 2 s, got 3 bytes" in received
    assert 1.5 < time.monotonic() - start_s < 10


@pytest.mark.slow
@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half a head"])
def test_a_connection_without_a_whole_head_is_closed(door: Door, first: bytes) -> None:
    start_s = time.monotonic()
    with connect(door) as connection:
        connection.sendall(first)
        with suppress(ConnectionResetError):
            assert connection.recv(10) == b""
    assert HEAD_S - 1 < time.monotonic() - start_s < HEAD_S + 10


def test_many_bodies_that_stall_cost_nobody_else_an_answer(web_server: RunningServer, png: Png) -> None:
    """Fifty, each of which announces the largest size, where two requests are answered at once."""
    with open_door(web_server.address, "--max-requests", "2") as door, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(door)).sendall(post(16 * 2**20) + b"abc")
        assert [ask(door.url, PATH, png(1)).code for _ in range(5)] == [200] * 5


def test_one_request_too_many_gets_a_429_with_retry_after(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """The door's own bound: one image waits for a batch to fill, and the server has room for more."""
    server = start_server(repository_folder, max_queue_delay_us=3_000_000)
    with open_door(server.address, "--max-requests", "1") as door, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, door.url, PATH, png(1))
        assert wait_until(lambda: count_waiting(server) == 1)
        answer = ask(door.url, PATH, png())
        assert (answer.code, answer.reason, answer.headers["retry-after"]) == (429, "OVERLOADED", "1")
        assert "wanted at most 1 requests under way" in answer.json["message"]
        assert waiting.result(30).code == 200


@pytest.mark.parametrize(
    ("path", "body", "items"),
    [
        ("/v2/models/bands/infer", b'{"inputs": [{"datatype": "BYTES", "data": [%s]}]}', [b'"AAAA"'] * 2_000_000),
        (PATH, b'{"image": [%s]}', [b'{"a":0}'] * 1_500_000),  # of texts alone, C code keeps the interpreter's lock
    ],
    ids=["open inference", "inkling.v1"],
)
def test_small_requests_are_answered_while_a_large_body_is_parsed(
    web_server: RunningServer, path: str, body: bytes, items: list[bytes]
) -> None:
    """A request takes its place before its body is parsed, so a small one that gets a 429 is answered meanwhile.

    The large body is refused by its parser. The small one is empty, so that it takes no place from the large one.
    """
    large = body % b",".join([*items, b'"?"'])
    with open_door(web_server.address, "--max-requests", "1") as door, ThreadPoolExecutor(1) as pool:
        parsed = pool.submit(ask, door.url, path, large, {"Content-Type": "application/json"})
        codes = []
        while not parsed.done():
            codes.append(ask(door.url, PATH, b"").code)
        assert 429 in codes[:-1], codes  # the last one may have ended after the large one
        assert parsed.result().code == 400


def test_an_overloaded_server_is_a_429_with_retry_after(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """One image waits for a batch to fill, and there is room for one."""
    server = start_server(repository_folder, max_pending=1, max_queue_delay_us=3_000_000)
    with open_door(server.address) as door, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, door.url, PATH, png(1))
        assert wait_until(lambda: count_waiting(server) == 1)
        answer = ask(door.url, PATH, png())
        assert (answer.code, answer.reason, answer.headers["retry-after"]) == (429, "OVERLOADED", "1")
        assert waiting.result(30).code == 200


def test_a_caller_that_leaves_takes_its_call_along(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """So its image no longer waits: there is room for another, long before the batch would have run."""
    server = start_server(repository_folder, max_pending=1, max_queue_delay_us=10_000_000)

    with open_door(server.address) as door:
        with connect(door) as connection:
            connection.sendall(post(len(png())) + png())
            assert wait_until(lambda: count_waiting(server) == 1)
        assert wait_until(lambda: count_waiting(server) == 0, 5)


def test_a_stop_finishes_what_was_accepted(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    server = start_server(repository_folder, max_queue_delay_us=2_000_000)
    with open_door(server.address) as door:
        found: list[int] = []
        asking = threading.Thread(target=lambda: found.append(ask(door.url, PATH, png()).code))
        asking.start()
        assert wait_until(lambda: count_waiting(server) == 1)
        door.process.terminate()
        asking.join(30)
        assert found == [200]
        assert door.process.wait(30) == 0


def test_bodies_count_as_large_as_they_are_once_decompressed(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """Sixteen of the largest size wait for a batch to fill. The seventeenth is refused, whose few bytes would fit."""
    server = start_server(repository_folder, max_queue_delay_us=4_000_000, max_pending=64)
    largest = 64 * 1024
    packed = gzip.compress(png(1) + bytes(largest - len(png(1))))
    with open_door(server.address, "--max-body-bytes", str(largest)) as door, ThreadPoolExecutor(MOST_HELD) as pool:
        headers = {"Content-Encoding": "gzip"}
        waiting = [pool.submit(ask, door.url, PATH, packed, headers) for _ in range(MOST_HELD)]
        assert wait_until(lambda: count_waiting(server) == MOST_HELD)
        answer = ask(door.url, PATH, packed, headers)
        assert (answer.code, answer.reason) == (429, "OVERLOADED")
        assert "bytes under way" in answer.json["message"]
        assert {each.result(30).code for each in waiting} == {200}
