"""serve.api.receiving: messages that are slow to come give way once they take too much memory, and no others."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from serve.api.receiving import LEAST_SLOW, LONGEST_S, SLOW_S, Receiver
from serve.errors import Overloaded, RequestStalled
from serve.machine.memory import MemoryGrowth
from serve.pb.classifier_pb2 import ClassifyRequest
from tests.support import Png, RunningServer

PATH = b"/inkling.v1.ClassifierService/Classify"
HEADERS = b"\x83\x86\x04" + bytes([len(PATH)]) + PATH + b"\x01\x01x\x0f\x10\x10application/grpc\x00\x02te\x08trailers"
CALLS = 40
RST_STREAM, HEADERS_FRAME, END_STREAM = 3, 1, 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Staller:
    """A connection with calls whose messages never end, and the calls that the server has ended."""

    def __init__(self, address: str, calls: int) -> None:
        host, _, port = address.rpartition(":")
        self._connection = socket.create_connection((host, int(port)))
        self._connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        for number in range(calls):
            begin = b"\0" + struct.pack(">I", 1_000_000) + b"begin"
            stream = 1 + 2 * number
            self._connection.sendall(frame(HEADERS_FRAME, 4, stream, HEADERS) + frame(0, 0, stream, begin))
        self.ended: set[int] = set()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with self._connection.makefile("rb") as file, contextlib.suppress(ConnectionError):
            while head := file.read(9):
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9])
                file.read(int.from_bytes(head[:3]))
                if kind == RST_STREAM or (kind == HEADERS_FRAME and flags & END_STREAM):
                    self.ended.add(stream)

    def close(self) -> None:
        """Hang up."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join(10)
        self._connection.close()


@contextmanager
def stalled(address: str, calls: int = CALLS) -> Iterator[Staller]:
    staller = Staller(address, calls)
    try:
        yield staller
    finally:
        staller.close()


def classify_slowly(server: RunningServer, png: Png) -> None:
    """Send a message in two halves, slower than SLOW_S, as from a phone; it must be answered."""
    request = ClassifyRequest(model="bands", image=png(1)).SerializeToString()
    message = b"\0" + struct.pack(">I", len(request)) + request
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection, connection.makefile("rb") as file:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, HEADERS))
        half = len(message) // 2
        connection.sendall(frame(0, 0, 1, message[:half]))
        time.sleep(4 * SLOW_S)
        connection.sendall(frame(0, 1, 1, message[half:]))
        body = b""
        while b"middle" not in body:
            head = file.read(9)
            assert len(head) == 9
            body += file.read(int.from_bytes(head[:3]))


def test_a_message_that_takes_its_time_is_answered(server: RunningServer, png: Png) -> None:
    classify_slowly(server, png)


@pytest.mark.parametrize("connections", [1, 40])
def test_any_number_of_slow_messages_may_come_while_there_is_memory(
    server: RunningServer, png: Png, connections: int
) -> None:
    """Uploads from phones take seconds, and a proxy sends those of many callers over one connection."""
    with ExitStack() as stack:
        stallers = [
            stack.enter_context(stalled(server.address, calls=CALLS // connections)) for _ in range(connections)
        ]
        time.sleep(5 * SLOW_S)
        classify_slowly(server, png)
        assert not any(staller.ended for staller in stallers)


class FakeContext:
    """A call whose message never comes."""

    def __init__(self, client: str) -> None:
        self._client = client

    def peer(self) -> str:
        """As gRPC names a client."""
        return self._client

    async def read(self) -> bytes:
        """Wait for ever."""
        return await asyncio.Event().wait() and b""


class Growing(MemoryGrowth):
    """Memory that is over its bound from the start, or never."""

    def __init__(self, is_over: bool) -> None:
        super().__init__(0)
        self._says_over = is_over

    def is_over(self) -> bool:
        """What it was told."""
        return self._says_over


def receive_all(clients: str, seconds: float, *, is_over: bool, longest_s: float | None = None) -> list[str]:
    """Clients, a letter each, whose messages have ended by then, in that order, each with the error's name."""
    ended: list[str] = []
    now_s = [0.0]

    async def receive(receiver: Receiver, client: str) -> None:
        context: Any = FakeContext(client)
        try:
            await (receiver.receive(context) if longest_s else receiver.receive_next(context))
        except (Overloaded, RequestStalled) as error:
            ended.append(client + " " + type(error).__name__)

    async def main() -> None:
        growth = Growing(is_over)
        receiver = Receiver(growth, lambda: time.monotonic() + now_s[0])
        tasks = [asyncio.create_task(receive(receiver, client)) for client in clients]
        await asyncio.sleep(seconds)
        now_s[0] = longest_s or 0.0
        await asyncio.sleep(1.5 * SLOW_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        growth.close()

    asyncio.run(main())
    return ended


def test_of_slow_messages_half_end_at_a_look_and_those_of_the_largest_clients_first() -> None:
    assert receive_all("abaaaacaaa", 1.5 * SLOW_S, is_over=True) == ["a Overloaded"] * 6
    assert receive_all("abcdef", 4 * SLOW_S, is_over=True) == ["a Overloaded", "b Overloaded"]


@pytest.mark.parametrize(("is_over", "count"), [(False, 40), (True, LEAST_SLOW)])
def test_slow_messages_stay_while_memory_has_not_grown_or_they_are_few(is_over: bool, count: int) -> None:
    assert not receive_all("a" * count, 4 * SLOW_S, is_over=is_over)


def test_a_unary_message_has_a_minute_and_one_of_a_stream_any_time() -> None:
    assert receive_all("ab", 2 * SLOW_S, is_over=False, longest_s=LONGEST_S + 1) == [
        "a RequestStalled",
        "b RequestStalled",
    ]
    assert not receive_all("ab", 2 * SLOW_S, is_over=False, longest_s=None)


def test_a_call_without_a_message_gets_a_status(server: RunningServer) -> None:
    import grpc  # here, with what follows: only this test makes a stream

    async def main() -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await channel.stream_unary(PATH.decode())(iter([])).code()

    assert asyncio.run(main()) is grpc.StatusCode.INVALID_ARGUMENT
