"""Connections that lie, hold, or are too many, beside good callers of a real server."""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.api.receiving import SLOW_S
from serve.client.client import Client
from serve.config import ServerConfig
from serve.errors import CallError
from serve.pb.classifier_pb2 import ClassifyRequest
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from serve.process import port
from tests.serve.hostile.wire import (
    DATA,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call,
    connect,
    frame,
    goaway,
    hello,
)
from tests.served import resident_bytes, served, wait_until
from tests.support import Png, RunningServer

CLASSIFY = f"{SERVICE.full_name}/Classify"
FORGED = (
    "\n2026-11-30 00:00:00,000 1 ERROR serve.process.supervisor: worker 0 ended with SIGKILL\n\x1b[31mforged\x1b[0m"
)
LARGEST_FRAME = 16_384
HELD_MESSAGES, HELD_BYTES = 64, 15_900_000
MOST_HELD_BYTES = 17 * 16 * 2**20
"""What docs/serving/limits.md states for messages that are slow to come, and one more. It adds what comes in SLOW_S."""
HOLD_S = 8
MOST_LOGGED = 60_000
"""Characters; at the level of debugging, libraries log something of their own for each listener."""
FEW_FILES = 160
"""Open files that a worker may have: it listens with 32 sockets, and its libraries open some dozens."""


def lies() -> list[bytes]:
    """What a peer may say of itself, where gRPC's core logs some of it."""
    text = FORGED.encode()
    odd_path = call(1, "x").replace(b"/x", b"/" + b"\n" * 1)
    return [
        hello() + goaway(text),
        hello() + call(1, CLASSIFY, b"") + goaway(text * 50),
        hello() + odd_path,
        hello() + frame(RST_STREAM, 0, 1, struct.pack(">I", 2)),
        hello() + frame(SETTINGS, 0, 0, text[:36]),
        hello() + frame(PING, 0, 0, text[:8]) * 100,
        hello() + frame(WINDOW_UPDATE, 0, 0, bytes(4)),
        hello() + frame(DATA, 0, 7, text),
        text,
        b"GET /forged HTTP/1.1\r\nHost: " + text.replace(b"\n", b"") + b"\r\n\r\n",
    ]


@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_nothing_that_a_peer_says_is_in_the_log(repository_folder: Path, png: Png, level: str) -> None:
    """Nor does it become a line: every one is a record of ours."""
    with ExitStack() as stack:
        running = stack.enter_context(served(repository_folder, "--log-level", "info"))
        address = running.address
        running.end()
        port = address.rpartition(":")[2]
        running = stack.enter_context(served(repository_folder, "--log-level", level, "--port", port))
        with Client(address) as client:
            client.wait_until_ready(30)
            for _ in range(20):
                for lie in lies():
                    stack.enter_context(connect(address, lie))
            for text in ("bands\n" + FORGED, FORGED):
                with pytest.raises(CallError):
                    client.classify(png(1), model=text)
            assert client.classify(png(1), model="bands").best.label == "middle"
        time.sleep(0.5)
        running.process.terminate()
        assert running.process.wait(30) == 0
        log = "".join(running.lines)
    assert "forged" not in log
    assert "\x1b" not in log
    assert len(log) < MOST_LOGGED
    assert all(line[:2].isdigit() for line in log.splitlines())


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


def open_many(address: str, stack: ExitStack) -> None:
    """More connections than the server has file descriptors; the kernel keeps those that it cannot take."""
    for _ in range(3 * FEW_FILES):
        stack.enter_context(connect(address, hello()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc to count open files")
def test_without_a_file_descriptor_left_good_callers_are_answered(repository_folder: Path, png: Png) -> None:
    """Those that are connected, small images and large ones, alone and in batches; no answer is INTERNAL."""
    large = png(1, (600, 600))
    starter = ["sh", "-c", f'ulimit -n {FEW_FILES}; exec "$@"', "sh"]
    with ExitStack() as stack:
        running = stack.enter_context(served(repository_folder, starter=starter))
        client = stack.enter_context(Client(running.address))
        assert client.classify(png(1), model="bands").best.label == "middle"
        open_many(running.address, stack)
        pid = running.worker_pids[0]
        assert wait_until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) >= FEW_FILES - 2)
        for _ in range(30):
            assert client.classify(png(1), model="bands").best.label == "middle"
            assert client.classify(large, model="bands").best.label == "middle"
            answers = client.classify_many([png(1), large, png(1)], model="bands")
            assert [answer.best.label for answer in answers if not isinstance(answer, CallError)] == ["middle"] * 3
            client.list_models()
        assert not running.find("Traceback")
        assert running.worker_pids == [pid]


def can_hide_proc() -> bool:
    return os.geteuid() == 0 and os.system("unshare --mount sh -c 'mount -t tmpfs none /proc' 2>/dev/null") == 0  # noqa: S605


@pytest.mark.skipif(not can_hide_proc(), reason="needs root, to hide /proc from a process")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_proc_it_serves(repository_folder: Path, png: Png, workers: str) -> None:
    starter = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc; exec "$@"', "sh"]
    with served(repository_folder, "--workers", workers, starter=starter) as running, Client(running.address) as client:
        for _ in range(20):
            assert client.classify(png(1), model="bands").best.label == "middle"
            assert client.classify(png(1, (600, 600)), model="bands").best.label == "middle"
            answers = client.classify_many([png(1), png(0)] * 4, model="bands")
            assert not any(isinstance(answer, CallError) for answer in answers)
        assert not running.find("Traceback")
        assert running.stop()[0] == 0


def seconds_open(connection: socket.socket) -> float:
    """How long a connection stays open, at most ten seconds; pings get no answer."""
    start_s = time.monotonic()
    with contextlib.suppress(ConnectionError, TimeoutError):
        while connection.recv(65_536):
            pass
    return time.monotonic() - start_s


@pytest.mark.parametrize(
    "sent",
    [b"", hello()[:10], hello(), hello(window=0) + call(1, "grpc.health.v1.Health/Watch", b"")],
    ids=["nothing", "half a hello", "no call", "a watch, and then nothing"],
)
def test_a_connection_of_which_nothing_comes_is_closed(
    repository_folder: Path, monkeypatch: pytest.MonkeyPatch, png: Png, sent: bytes
) -> None:
    """So that peers that are gone, or wait for nothing, do not use up the file descriptors."""
    for name in ("HANDSHAKE_S", "IDLE_S", "KEEPALIVE_S", "KEEPALIVE_TIMEOUT_S"):
        monkeypatch.setattr(port, name, 1.0)
    running = RunningServer(ServerConfig(models=repository_folder, port=0, device="cpu", workers=1))
    try:
        with connect(running.address, sent) as connection, Client(running.address) as client:
            assert seconds_open(connection) < 6
            assert client.classify(png(1), model="bands").best.label == "middle"
    finally:
        running.stop()


def test_a_client_goes_on_over_another_connection_when_one_was_idle(
    repository_folder: Path, monkeypatch: pytest.MonkeyPatch, png: Png
) -> None:
    monkeypatch.setattr(port, "IDLE_S", 0.3)
    running = RunningServer(ServerConfig(models=repository_folder, port=0, device="cpu", workers=1))
    try:
        with grpc.insecure_channel(running.address, [("grpc.enable_retries", 0)]) as channel:
            for pause_s in (0.1, 0.28, 0.3, 0.32, 0.35, 0.6):
                request = ClassifyRequest(model="bands", image=png(1))
                assert ClassifierServiceStub(channel).Classify(request, timeout=10).classification.classes
                time.sleep(pause_s)
    finally:
        running.stop()


def test_an_unknown_method_is_unimplemented_whatever_its_name(repository_folder: Path) -> None:
    with served(repository_folder) as running, grpc.insecure_channel(running.address) as channel:
        for name in ("/inkling.v1.ClassifierService/Nothing", "/a/b", "//", "/" + "x" * 1000):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(name)(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
