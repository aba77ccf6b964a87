"""serve.client.AsyncClient: retries and deadlines; and several servers behind one address, also for Client."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serve.api.inkling_v1 import SERVICE
from serve.client import AsyncClient, CallError, Client
from serve.errors import ConfigError
from serve.pb import classifier_pb2 as pb
from tests.serve.client.test_aio import use
from tests.support import Png, RunningServer, starting

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """A server that fails its first calls with a status, then answers with its name as the model; with health."""

    def __init__(self, name: str = "", failures: tuple[grpc.StatusCode, ...] = (), pause_s: float = 0) -> None:
        self.calls = 0
        self.health = health.HealthServicer()  # type: ignore[no-untyped-call]
        self.set_health(SERVING)
        self._name, self._failures, self._pause = name, list(failures), pause_s
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = {
            "Classify": grpc.unary_unary_rpc_method_handler(
                self._answer, pb.ClassifyRequest.FromString, pb.ClassifyResponse.SerializeToString
            )
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def set_health(self, status: Any) -> None:
        """What the server says about itself."""
        self.health.set("", status)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()

    def _answer(self, _: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        self.calls += 1
        if self._failures:
            context.abort(self._failures.pop(0), "not now")
        time.sleep(self._pause)
        return pb.ClassifyResponse(model=self._name)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """A function that starts a `Server`. All are stopped at the end."""
    with starting(Server) as start:
        yield start


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_call_is_retried_twice(start: Callable[..., Server], kind: type, code: grpc.StatusCode) -> None:
    failing = start("once more", (code, code))
    if kind is AsyncClient:
        answer = use(failing.address, lambda client: client.classify(b"image"))
    else:
        with Client(failing.address) as client:
            answer = client.classify(b"image")
    assert (answer.model, failing.calls) == ("once more", 3)


def test_a_call_that_the_server_cancelled_is_retried(start: Callable[..., Server]) -> None:
    failing = start("once more", (grpc.StatusCode.CANCELLED,))
    assert use(failing.address, lambda client: client.classify(b"image")).model == "once more"


def test_another_failure_is_not_retried(start: Callable[..., Server]) -> None:
    failing = start("", (grpc.StatusCode.INTERNAL,))
    with pytest.raises(CallError, match=r"^INTERNAL: not now$"):
        use(failing.address, lambda client: client.classify(b"image"))
    assert failing.calls == 1


def test_a_call_ends_at_its_deadline(start: Callable[..., Server]) -> None:
    slow = start("slow", pause_s=2)
    with pytest.raises(CallError) as caught:
        use(slow.address, lambda client: client.classify(b"image"), timeout_s=0.2)
    assert (caught.value.code, caught.value.reason) == ("DEADLINE_EXCEEDED", "GRPC")


def test_a_cancelled_task_cancels_its_call(start: Callable[..., Server]) -> None:
    slow = start("slow", pause_s=1)

    async def ask(client: AsyncClient) -> None:
        await asyncio.wait_for(client.classify(b"image"), 0.2)

    with pytest.raises(TimeoutError):
        use(slow.address, ask)


async def count_answers(client: AsyncClient, calls: int) -> dict[str, int]:
    names = [(await client.classify(b"image")).model for _ in range(calls)]
    return {name: names.count(name) for name in set(names)}


def test_calls_are_spread_over_the_servers_that_serve(start: Callable[..., Server]) -> None:
    """A server that says that it does not serve, and one that is not there, get no calls."""
    ready, other, draining = start("ready"), start("other"), start("draining")
    draining.set_health(NOT_SERVING)
    address = ",".join([ready.address, other.address, draining.address, "127.0.0.1:1"])

    async def ask(client: AsyncClient) -> tuple[dict[str, int], dict[str, int]]:
        await client.classify(b"image")
        await asyncio.sleep(0.5)  # until both are connected
        before = await count_answers(client, 20)
        other.set_health(NOT_SERVING)
        await asyncio.sleep(0.5)
        return before, await count_answers(client, 20)

    before, after = use(address, ask)
    assert before == {"ready": 10, "other": 10}
    assert after == {"ready": 20}
    assert draining.calls == 0


def test_the_client_for_threads_spreads_its_calls_too(start: Callable[..., Server]) -> None:
    one, two = start("one"), start("two")
    with Client(f"{one.address},{two.address}") as client:
        names = {client.classify(b"image").model for _ in range(200)}
    assert names == {"one", "two"}


def test_a_name_of_the_resolver_is_resolved_and_asked_for_its_health(server: RunningServer, png: Png) -> None:
    port = server.address.rpartition(":")[2]
    address = f"dns:///localhost:{port}"
    assert use(address, lambda client: client.classify(png(1), model="bands")).best.label == "middle"


@pytest.mark.parametrize("address", ["here:1,there:2", "127.0.0.1:1,[::1]:2", "127.0.0.1:1,", "127.0.0.1:1,here:2"])
def test_several_servers_have_to_be_addresses_of_one_kind(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^address: wanted "):
        Client(address)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_several_addresses_may_be_of_ipv6() -> None:
    with Client("[::1]:1,[::1]:2", timeout_s=5) as client, pytest.raises(CallError, match=r"^UNAVAILABLE: "):
        client.classify(b"image")
