"""serve.process.server: health and reflection of a server, as it serves and as it stops."""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serve.api.inkling_v1 import SERVICE
from serve.client import health
from tests.serve.process.test_server import running
from tests.support import RunningServer


def test_health_is_serving_for_the_server_its_service_and_each_model(server: RunningServer) -> None:
    for service in ("", SERVICE.full_name, "bands", "grey-bands"):
        assert health.ask(server.address, service, timeout_s=5) == "SERVING"
    assert health.ask(server.address, "nothing", timeout_s=5) == "NOT_FOUND"


def test_health_is_not_serving_while_the_server_drains(
    start_server: Callable[..., RunningServer], repository_folder: Path
) -> None:
    server = start_server(repository_folder)
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert list(watch) == [], "the watch ends by itself"
    stopping.join()


def test_those_who_watch_its_health_do_not_hold_up_a_stop(repository_folder: Path) -> None:
    """Two of one service, and one of a service that does not exist."""
    with running(repository_folder, "--grace-s", "60") as (process, address), grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "", "nothing")]
        for watch in watches:
            next(watch)
        process.terminate()
        assert process.wait(10) == 0


def test_a_caller_who_keeps_its_reflection_open_does_not_hold_up_a_stop(repository_folder: Path) -> None:
    with running(repository_folder, "--grace-s", "60") as (process, address), grpc.insecure_channel(address) as channel:
        asked = threading.Event()

        def ask_once() -> Iterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            asked.wait()  # and never say that there is no more

        replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(ask_once())
        assert next(replies).list_services_response.service
        process.terminate()
        assert process.wait(10) == 0
        asked.set()


def test_the_health_command_has_exit_code_0_for_a_server_and_1_for_none(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["health", "--address", server.address])
    assert health.main() == 0
    assert capsys.readouterr().out == "SERVING\n"
    monkeypatch.setattr(sys, "argv", ["health", "--address", "127.0.0.1:1", "--timeout", "0.5"])
    assert health.main() == 1


def test_reflection_answers_beside_callers_who_never_read(server: RunningServer) -> None:
    """More of them than a pool has threads."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(server.address) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        idle = [ask(itertools.repeat(request, 100)) for _ in range(40)]
        assert next(ask(iter([request]), timeout=10)).list_services_response.service
        for call in idle:
            call.cancel()


def test_reflection_lists_the_services(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        reply = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request])))
    names = {service.name for service in reply.list_services_response.service}
    assert {SERVICE.full_name, "grpc.health.v1.Health"} <= names
