"""serve.client.AsyncClient: what Client does, for asyncio."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import serve.client
from serve.client import AsyncClient, CallError, Classification, ClassProbability, Client, Timing
from serve.errors import ConfigError
from tests.certificates import Authority
from tests.support import Png, RunningServer

Use = Callable[[AsyncClient], Coroutine[Any, Any, Any]]


def use(address: str, ask: Use, **options: Any) -> Any:
    """Run a coroutine with a client of its own."""

    async def run() -> Any:
        async with AsyncClient(address, **options) as client:
            return await ask(client)

    return asyncio.run(run())


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
