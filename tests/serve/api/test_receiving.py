"""serve.api.receiving: messages that are slow to come are few, and every other call is answered."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from serve.api.receiving import MOST_SLOW, MOST_SLOW_OF_CLIENT, SLOW_S
from serve.client.client import Client
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


def test_a_connection_keeps_few_messages_unfinished(server: RunningServer, png: Png) -> None:
    with stalled(server.address) as staller, Client(server.address) as client:
        ends_s = time.monotonic() + 20
        while len(staller.ended) < CALLS - MOST_SLOW_OF_CLIENT and time.monotonic() < ends_s:
            assert client.classify(png(1), model="bands").best.label == "middle"
        time.sleep(3 * SLOW_S)
        assert len(staller.ended) == CALLS - MOST_SLOW_OF_CLIENT


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


def test_a_slow_message_is_answered_beside_connections_that_fill_all_places(server: RunningServer, png: Png) -> None:
    """Those that have several give way: else a few of them would end every message that is not there at once."""
    with ExitStack() as stack:
        for _ in range(MOST_SLOW // MOST_SLOW_OF_CLIENT + 2):
            stack.enter_context(stalled(server.address))
        time.sleep(5 * SLOW_S)
        for _ in range(3):
            classify_slowly(server, png)


def test_of_many_connections_with_one_slow_message_each_the_oldest_give_way(server: RunningServer, png: Png) -> None:
    with ExitStack() as stack:
        stallers = [stack.enter_context(stalled(server.address, calls=1)) for _ in range(2 * MOST_SLOW)]
        time.sleep(5 * SLOW_S)
        assert sum(len(staller.ended) for staller in stallers) == MOST_SLOW
        classify_slowly(server, png)
        assert stallers[0].ended


def test_a_call_without_a_message_gets_a_status(server: RunningServer) -> None:
    import grpc  # here, with what follows: only this test makes a stream

    async def main() -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await channel.stream_unary(PATH.decode())(iter([])).code()

    assert asyncio.run(main()) is grpc.StatusCode.INVALID_ARGUMENT
