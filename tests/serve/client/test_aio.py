"""serve.client.AsyncClient: what Client does, for asyncio; and several servers behind one address, for both."""

import asyncio
import inspect
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import serve.client
from serve.api.inkling_v1 import SERVICE
from serve.client import AsyncClient, CallError, Classification, ClassProbability, Client, Timing
from serve.errors import ConfigError
from serve.pb import classifier_pb2 as pb
from tests.certificates import Authority
from tests.support import Png, RunningServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
Use = Callable[[AsyncClient], Coroutine[Any, Any, Any]]


def use(address: str, ask: Use, **options: Any) -> Any:
    """Run a coroutine with a client of its own."""

    async def run() -> Any:
        async with AsyncClient(address, **options) as client:
            return await ask(client)

    return asyncio.run(run())


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
    servers: list[Server] = []

    def begin(*arguments: Any, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


def public(client: type) -> dict[str, str]:
    names = [name for name in vars(client) if not name.startswith("_")]
    return {name: str(inspect.signature(getattr(client, name))) for name in [*names, "__init__"]}


def test_both_clients_have_the_same_methods_with_the_same_parameters_and_types() -> None:
    """But for `classify_stream`, whose iterators are asynchronous here, and may be there."""
    ours, theirs = public(AsyncClient), public(Client)
    assert (
        ours["classify_stream"].replace("collections.abc.Iterable[bytes] | ", "").replace("Async", "")
        == theirs["classify_stream"]
    )
    del ours["classify_stream"], theirs["classify_stream"]
    assert ours == theirs


def test_the_package_hands_on_the_clients_and_their_types() -> None:
    assert set(serve.client.__all__) == {
        each.__name__ for each in (AsyncClient, CallError, Classification, ClassProbability, Client, Timing)
    }


def test_an_image_and_many_are_classified_as_by_the_client_for_threads(
    server: RunningServer, client: Client, png: Png
) -> None:
    async def ask(other: AsyncClient) -> tuple[Classification, list[Classification | CallError]]:
        await other.wait_until_ready(5)
        options = {"model": "bands", "version": "1", "top_k": 2, "language": "ru"}
        one = await other.classify(png(1), return_prepared=True, **options)  # type: ignore[arg-type]
        return one, await other.classify_many([png(2), b"no image"], **options)  # type: ignore[arg-type]

    one, (good, bad) = use(server.address, ask, connections=2)
    theirs = client.classify(png(1), model="bands", version="1", top_k=2, language="ru", return_prepared=True)
    assert (one.classes, one.model, one.version, one.prepared_png) == (
        theirs.classes,
        theirs.model,
        theirs.version,
        theirs.prepared_png,
    )
    assert one.timing.total_us > 0
    assert good.best.label == "низ"
    assert (bad.code, bad.reason) == ("INVALID_ARGUMENT", "IMAGE_UNREADABLE")


def test_models_are_listed_and_described(server: RunningServer, client: Client) -> None:
    async def ask(other: AsyncClient) -> tuple[Any, Any]:
        return await other.list_models(), await other.get_model("bands", "1")

    assert use(server.address, ask) == (client.list_models(), client.get_model("bands", "1"))


def test_many_calls_at_once_are_answered(server: RunningServer, png: Png) -> None:
    async def ask(client: AsyncClient) -> list[str]:
        calls = [client.classify(png(number % 3), model="bands") for number in range(60)]
        return [answer.best.label for answer in await asyncio.gather(*calls)]

    assert use(server.address, ask, connections=4) == ["top", "middle", "bottom"] * 20


@pytest.mark.parametrize(
    ("model", "image", "code", "reason"),
    [("none", b"", "NOT_FOUND", "MODEL_NOT_FOUND"), ("bands", bytes(2000), "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")],
)
def test_a_failure_has_the_code_and_the_reason(
    server: RunningServer, model: str, image: bytes, code: str, reason: str
) -> None:
    with pytest.raises(CallError) as caught:
        use(server.address, lambda client: client.classify(image, model=model), max_message_bytes=1000)
    assert (caught.value.code, caught.value.reason) == (code, reason)


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


def test_no_server_in_time_is_an_error() -> None:
    with pytest.raises(CallError) as caught:
        use("127.0.0.1:1", lambda client: client.wait_until_ready(0.2))
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "NO_SERVER")


def test_tls_and_a_token_are_used_as_by_the_client_for_threads(
    start_server: Callable[..., RunningServer], repository_folder: Path, tmp_path: Path, png: Png
) -> None:
    authority = Authority.make("authority")
    certificate, key = authority.sign().write(tmp_path)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "tokens").write_text("alice a-secret-of-alice\n")
    secure = start_server(repository_folder, tls_cert=certificate, tls_key=key, tokens=tmp_path / "tokens")

    def ask(client: AsyncClient) -> Coroutine[Any, Any, Any]:
        return client.classify(png(1), model="bands")

    trusting = {"tls_ca": tmp_path / "ca.pem"}
    with_token = {**trusting, "token": "a-secret-of-alice"}
    port = secure.address.rpartition(":")[2]
    for address in (secure.address, f"dns:///localhost:{port}"):
        assert use(address, ask, **with_token).best.label == "middle"
    with pytest.raises(ConfigError, match=r"^address: wanted one name of all servers as dns:///HOST:PORT for TLS"):
        use(f"{secure.address},{secure.address}", ask, **trusting)
    with pytest.raises(CallError, match=r"^UNAUTHENTICATED: "):
        use(secure.address, ask, **trusting)
    with pytest.raises(CallError, match=r"speaks TLS: wanted its authorities"):
        use(secure.address, ask)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_file_that_cannot_be_used_is_refused_when_the_client_is_made(kind: type, tmp_path: Path) -> None:
    async def make() -> None:
        kind(tls_ca=tmp_path / "none")

    with pytest.raises(ConfigError, match=r"^TLS: wanted certificates of authorities"):
        asyncio.run(make())


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
