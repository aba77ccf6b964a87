"""Connections that lie, stall, or are too many, beside good callers of a real server."""

import contextlib
import os
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.client.client import Client
from serve.config import ServerConfig
from serve.errors import CallError
from serve.pb.classifier_pb2 import ClassifyRequest
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from serve.process.listening import port
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
from tests.served import served, wait_until
from tests.support import Png, RunningServer

CLASSIFY = f"{SERVICE.full_name}/Classify"
FORGED = (
    "\n2026-11-30 00:00:00,000 1 ERROR serve.process.supervisor: worker 0 ended with SIGKILL\n\x1b[31mforged\x1b[0m"
)
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
