"""What a server says at its start, and how long connections live: pings, ages, and the time after a stop signal."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.client import health
from serve.client.client import Client
from tests.certificates import Authority
from tests.support import Png, RunningServer

GOAWAY = 7
"""The type of the frame by which HTTP/2 ends a connection (RFC 9113, section 6.8)."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The beginning of a connection, with empty settings."""


@contextmanager
def running(models: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A server as a process, its address, and what it has logged until it served."""
    command = [sys.executable, "-m", "serve", "--models", str(models), "--port", "0", "--device", "cpu"]
    with subprocess.Popen([*command, "--workers", "1", *flags], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            lines = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"serving .* on (\S+):(\d+)$", line):
                    yield process, f"127.0.0.1:{found[2]}", lines
                    break
            else:
                pytest.fail("".join(lines))
        finally:
            process.kill()


def watch_with_pings(address: str, every_ms: int, seconds: float) -> tuple[list[int], grpc.StatusCode]:
    """What a standing watch of a balancer is told, and how it ends when the balancer ends it."""
    options = [("grpc.keepalive_time_ms", every_ms), ("grpc.http2.max_pings_without_data", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        timer = threading.Timer(seconds, watch.cancel)
        timer.start()
        statuses: list[int] = []
        with pytest.raises(grpc.RpcError):
            statuses.extend(reply.status for reply in watch)
        timer.join()
        return statuses, watch.code()


def read_frames(connection: socket.socket) -> Iterator[int]:
    """The types of the frames that come over an HTTP/2 connection, until it ends."""
    stream = connection.makefile("rb")
    while header := stream.read(9):
        stream.read(int.from_bytes(header[:3]))
        yield header[3]


@pytest.mark.slow
def test_a_watch_with_a_ping_every_ten_seconds_lives(
    start_server: Callable[..., RunningServer], repository_folder: Path
) -> None:
    """As balancers and meshes watch; gRPC's own default ends it after the third ping."""
    server = start_server(repository_folder)
    assert watch_with_pings(server.address, 10_000, 45) == ([1], grpc.StatusCode.CANCELLED)


@pytest.mark.slow
def test_a_connection_without_calls_may_ping_every_second_or_two(
    start_server: Callable[..., RunningServer], repository_folder: Path
) -> None:
    """Six of them, over a bare connection, on which gRPC's own default allows one in two hours."""
    host, _, port = start_server(repository_folder).address.rpartition(":")
    ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8)
    acknowledge = bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(PREFACE + acknowledge)
        frames = read_frames(connection)
        for _ in range(6):
            time.sleep(1.1)
            connection.sendall(ping)
            while (kind := next(frames)) != 6:
                assert kind != GOAWAY


def test_a_connection_that_pings_all_the_time_is_ended(server: RunningServer) -> None:
    host, _, port = server.address.rpartition(":")
    ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8)
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(PREFACE + 20 * ping)
        assert GOAWAY in read_frames(connection)


def test_an_old_connection_is_ended_and_no_call_fails(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    server = start_server(repository_folder, max_connection_age_s=1)
    host, _, port = server.address.rpartition(":")
    with Client(server.address) as client, socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(PREFACE)
        began_s = time.monotonic()
        assert GOAWAY in read_frames(connection)
        assert 0.5 < time.monotonic() - began_s < 5
        while time.monotonic() - began_s < 4:
            assert client.classify(png(1), model="bands").best.label == "middle"


def test_a_connection_has_no_age_unless_one_is_set(server: RunningServer) -> None:
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), 2) as connection:
        connection.sendall(PREFACE)
        with pytest.raises(TimeoutError):
            list(read_frames(connection))


@pytest.mark.slow
def test_calls_are_answered_on_new_connections_while_it_is_a_lame_duck(repository_folder: Path, png: Png) -> None:
    """Balancers see that it is NOT_SERVING, and send it calls until they have looked. The grace begins afterwards."""
    with running(repository_folder, "--lame-duck-s", "7", "--grace-s", "1") as (process, address, _):
        process.send_signal(signal.SIGTERM)
        signalled_s = time.monotonic()
        while health.ask(address, "", timeout_s=5) == "SERVING":
            time.sleep(0.01)
        while time.monotonic() - signalled_s < 6:
            with Client(address) as client:
                assert client.classify(png(1), model="bands").best.label == "middle"
            assert health.ask(address, "", timeout_s=5) == "NOT_SERVING"
        assert process.stderr
        log = process.stderr.read()
        assert process.wait(20) == 0
        assert time.monotonic() - signalled_s >= 7
        assert "killing" not in log


def test_the_settings_in_force_are_logged_at_the_start(repository_folder: Path) -> None:
    with running(repository_folder, "--max-batch", "7") as (_, _, lines):
        (line,) = (line for line in lines if " settings: " in line)
    assert f" models={repository_folder} " in line
    assert " max_batch=7 " in line
    assert " grace_s=20 " in line
    assert "tls_cert" not in line, "it has no value"


@pytest.mark.parametrize(
    ("flags", "warnings"),
    [([], 0), (["--host", "0.0.0.0"], 1), (["--host", "0.0.0.0", "--workers", "2"], 1)],  # noqa: S104
    ids=["this machine", "every interface", "two workers"],
)
def test_listening_beyond_this_machine_without_tls_is_said_once(
    repository_folder: Path, flags: list[str], warnings: int
) -> None:
    with running(repository_folder, *flags) as (_, _, lines):
        assert sum("without TLS" in line for line in lines) == warnings


def test_listening_beyond_this_machine_over_tls_is_nothing_to_warn_of(repository_folder: Path, tmp_path: Path) -> None:
    certificate, key = Authority.make("authority").sign().write(tmp_path)
    flags = ("--host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key", str(key))  # noqa: S104
    with running(repository_folder, *flags) as (_, _, lines):
        assert not any("without TLS" in line for line in lines)
