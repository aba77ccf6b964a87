"""Stops and restarts of `python -m serve` beside peers that do not help: silent, stopped, or slow ones."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.api.inkling_v1 import SERVICE
from serve.client import health
from serve.client.client import Client
from serve.pb import classifier_pb2 as pb
from tests.serve.hostile.wire import call, connect, hello
from tests.served import Served, is_alive, served, wait_until
from tests.support import Png

LONGEST_STOP_S = 10
"""Seconds of a stop with nothing under way, on a busy machine; the grace in these tests is far longer."""
CONNECTIONS = 12
"""So many that each of two workers has some, but for one chance in two thousand."""

IDLE_CLIENT = """
import sys, time, grpc
channel = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(channel).result(30)
print("connected", flush=True)
time.sleep(600)
"""


def watch_unread() -> bytes:
    """A health watch whose answers are never taken."""
    return hello(window=0) + call(1, "grpc.health.v1.Health/Watch", b"")


def reflect_unread() -> bytes:
    """A reflection that does not end, and whose answers are never taken."""
    method = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    return hello(window=0) + call(1, method, *[b"\x3a\0"] * 20, ends=False)


@contextmanager
def stopped_client(address: str) -> Iterator[None]:
    """A gRPC client that is connected, and whose process is stopped."""
    with subprocess.Popen([sys.executable, "-c", IDLE_CLIENT, address], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.kill()


def stop_beside(models: Path, data: bytes, client_is_stopped: bool = False) -> tuple[int, float, float]:
    """Stop a server of two workers that has such connections: code, seconds to the end, and to NOT_SERVING."""
    with ExitStack() as stack:
        running = stack.enter_context(served(models, "--workers", "2", "--grace-s", "60"))
        for _ in range(CONNECTIONS):
            stack.enter_context(connect(running.address, data))
        if client_is_stopped:
            stack.enter_context(stopped_client(running.address))
        channel = stack.enter_context(grpc.insecure_channel(running.address))
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        time.sleep(0.3)  # what was sent has come
        start_s = time.monotonic()
        running.process.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        told_s = time.monotonic() - start_s
        code = running.process.wait(90)
        return code, time.monotonic() - start_s, told_s


@pytest.mark.parametrize(
    "data", [watch_unread(), reflect_unread(), hello(), b""], ids=["watch", "reflect", "h2", "tcp"]
)
def test_a_peer_that_reads_or_says_nothing_does_not_hold_up_a_stop(repository_folder: Path, data: bytes) -> None:
    """A watch and a reflection that are not read, and connections that say hello or nothing."""
    code, ended_s, told_s = stop_beside(repository_folder, data)
    assert code == 0
    assert told_s < 2
    assert ended_s < LONGEST_STOP_S


def test_a_client_that_is_stopped_does_not_hold_up_a_stop(repository_folder: Path) -> None:
    code, ended_s, _ = stop_beside(repository_folder, hello(), client_is_stopped=True)
    assert code == 0
    assert ended_s < LONGEST_STOP_S


def classify_slowly(models: Path, png: Png, number: signal.Signals) -> tuple[int, bytes]:
    """Send a signal while half of a message has come, then the rest: the exit code, and what was answered."""
    message = pb.ClassifyRequest(model="bands", image=png(1)).SerializeToString()
    sent = hello() + call(1, f"{SERVICE.full_name}/Classify", message)
    with served(models) as running, connect(running.address, sent[:-100]) as connection:
        time.sleep(0.3)  # the call is in its handler
        running.process.send_signal(number)
        os.kill(running.worker_pids[0], number)
        running.wait_for("stopping")
        time.sleep(0.3)
        connection.sendall(sent[-100:])
        with connection.makefile("rb") as file:
            answered = file.read()  # up to the end of the connection
        return running.process.wait(20), answered


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_hangup_or_a_quit_stops_it_as_a_termination_does(
    repository_folder: Path, png: Png, number: signal.Signals
) -> None:
    """With a call in flight; the worker gets the signal, too, as from a terminal whose group it shares."""
    code, answered = classify_slowly(repository_folder, png, number)
    assert code == 0
    assert b"middle" in answered


def test_a_second_signal_ends_it_at_once_whatever_is_under_way(repository_folder: Path) -> None:
    """What is under way is a message that never ends."""
    with served(repository_folder, "--grace-s", "50") as running:
        method = f"{SERVICE.full_name}/Classify"
        with connect(running.address, hello() + call(1, method, bytes(1000))[:-500]):
            time.sleep(0.3)
            running.process.send_signal(signal.SIGINT)
            running.wait_for("stopping; accepted calls have 50 s")
            time.sleep(1)
            assert running.process.poll() is None, "the call is still under way"
            code, ended_s = running.stop(signal.SIGINT)
        assert code == 1
        assert ended_s < LONGEST_STOP_S
        assert not any(map(is_alive, running.worker_pids))
        running.wait_for("told to stop once more")


def kill_and_start_again(models: Path, first: Served) -> Served:
    """Kill a supervisor, and start another server on its port at once."""
    port = first.address.rpartition(":")[2]
    first.process.kill()
    first.process.wait()
    return Served(models, "--port", port, "--workers", "2")


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_after_a_kill_of_the_supervisor_a_server_starts_on_its_port(
    repository_folder: Path, png: Png, busy: bool
) -> None:
    """Its workers let the port go at once, also with a call under way, a watch, and silent connections."""
    with ExitStack() as stack:
        first = stack.enter_context(served(repository_folder, "--workers", "2", "--grace-s", "2"))
        if busy:
            method = f"{SERVICE.full_name}/Classify"
            for data in (hello() + call(1, method, bytes(1000))[:-500], watch_unread(), b""):
                for _ in range(CONNECTIONS):
                    stack.enter_context(connect(first.address, data))
            time.sleep(0.3)
        second = kill_and_start_again(repository_folder, first)
        stack.callback(second.end)
        with Client(second.address) as client:
            client.wait_until_ready(10)
            assert client.classify(png(1), model="bands").best.label == "middle"
        assert wait_until(lambda: not any(map(is_alive, first.worker_pids)), 40), "a worker outlived its supervisor"
        assert second.stop()[0] == 0


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_it_serves_and_stops_with_closed_standard_streams(repository_folder: Path, png: Png, closed: str) -> None:
    """The next file or socket would otherwise take their place, and be written to."""
    port = free_port()
    starter = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    with served(repository_folder, "--port", port, starter=starter) as running:
        with Client(f"127.0.0.1:{port}") as client:
            client.wait_until_ready(60)
            assert client.classify(png(1), model="bands").best.label == "middle"
        assert health.ask(f"127.0.0.1:{port}", "bands", timeout_s=5) == "SERVING"
        assert running.stop()[0] == 0
