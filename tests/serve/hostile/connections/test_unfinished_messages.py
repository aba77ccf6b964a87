"""Connections that hold unfinished messages, beside good callers of a real server."""

import select
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.api.inkling_v1 import SERVICE
from serve.api.receiving import SLOW_S
from serve.client.client import Client
from tests.serve.hostile.wire import (
    DATA,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    call,
    connect,
    frame,
    hello,
)
from tests.served import resident_bytes, served
from tests.support import Png

LARGEST_FRAME = 16_384
HELD_MESSAGES, HELD_BYTES = 64, 15_900_000
MOST_HELD_BYTES = 17 * 16 * 2**20
"""What docs/serving/limits.md states for messages that are slow to come, and one more. It adds what comes in SLOW_S."""
HOLD_S = 8


class Holder:
    """A connection that sends nearly all of 64 large messages, as fast as the server takes them."""

    def __init__(self, address: str, method: str) -> None:
        self._method = method
        self._connection = connect(address, hello())
        self._arrivals = select.poll()  # select.select takes no descriptor over 1,023, and a whole suite has more open
        self._arrivals.register(self._connection, select.POLLIN)
        self.sent = 0
        self._window, self._windows, self._initial = 65_535, dict[int, int](), 65_535
        self._left = {1 + 2 * number: HELD_BYTES for number in range(HELD_MESSAGES)}
        self._received = b""

    def hold(self, seconds: float) -> None:
        """Send for a time."""
        for stream in self._left:
            opened = call(stream, self._method, ends=False)
            begin = b"\0" + struct.pack(">I", HELD_BYTES + 5)
            self._connection.sendall(opened + frame(DATA, 0, stream, begin))
            self._windows[stream] = 65_535 - len(begin)
            self._window -= len(begin)
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            self._send()
            self._read()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _send(self) -> None:
        for stream, left in self._left.items():
            size = min(LARGEST_FRAME, left, self._windows[stream], self._window)
            if size > 0:
                self._connection.sendall(frame(DATA, 0, stream, bytes(size)))
                self._left[stream] -= size
                self._windows[stream] -= size
                self._window -= size
                self.sent += size

    def _read(self) -> None:
        if not self._arrivals.poll(20):
            return
        self._received += self._connection.recv(65_536)
        while len(self._received) >= 9 and len(self._received) >= 9 + (size := int.from_bytes(self._received[:3])):
            kind, flags, stream = self._received[3], self._received[4], int.from_bytes(self._received[5:9])
            payload, self._received = self._received[9 : 9 + size], self._received[9 + size :]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload)
        elif kind == WINDOW_UPDATE:
            self._windows[stream] += int.from_bytes(payload)
        elif kind == PING and not flags:
            self._connection.sendall(frame(PING, 1, 0, payload))
        elif kind == SETTINGS and not flags:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == 4:
                    self._windows = {each: window + value - self._initial for each, window in self._windows.items()}
                    self._initial = value
            self._connection.sendall(frame(SETTINGS, 1, 0, b""))


@contextmanager
def holding(address: str, method: str, connections: int, seconds: float) -> Iterator[list[Holder]]:
    holders = [Holder(address, method) for _ in range(connections)]
    threads = [threading.Thread(target=holder.hold, args=(seconds,)) for holder in holders]
    for thread in threads:
        thread.start()
    try:
        yield holders
    finally:
        for thread in threads:
            thread.join()
        for holder in holders:
            holder.close()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["Classify", "StreamClassify"])
@pytest.mark.parametrize("connections", [1, 8])
def test_unfinished_messages_take_bounded_memory_and_good_callers_are_answered(
    repository_folder: Path, png: Png, connections: int, method: str
) -> None:
    with served(repository_folder) as running, Client(running.address) as client:
        pid = running.worker_pids[0]
        assert client.classify(png(1), model="bands").best.label == "middle"
        before, grown, waits_s = resident_bytes(pid), [0], [0.0]
        method = f"{SERVICE.full_name}/{method}"
        with holding(running.address, method, connections, seconds=HOLD_S) as holders:
            ends_s = time.monotonic() + HOLD_S
            while time.monotonic() < ends_s:
                start_s = time.monotonic()
                assert client.classify(png(1), model="bands").best.label == "middle"
                waits_s.append(time.monotonic() - start_s)
                grown.append(resident_bytes(pid) - before)
                time.sleep(0.02)
            sent = sum(holder.sent for holder in holders)
        assert sent > 4 * HELD_BYTES, "they were held"
        assert sorted(grown)[len(grown) * 3 // 4] < MOST_HELD_BYTES + sent / HOLD_S * SLOW_S
        assert max(waits_s) < 2
        assert running.worker_pids == [pid]
