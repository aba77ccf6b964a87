"""A server with tokens: who is answered, what the others are told, and tokens that change while it serves."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from serve.api.inkling_v1 import SERVICE
from serve.api.open_inference.service import SERVICE as OPEN_INFERENCE
from serve.api.standard.health import HEALTH
from serve.api.standard.reflection import REFLECTIONS
from serve.client import __main__ as classify
from serve.client import health
from serve.client.client import Client
from tests.serve.process.security.callers import ALICES, BOBS
from tests.support import Png, RunningServer

IN_FORCE_S = 5.0
"""Seconds after which a new token is in force, as the documentation says."""
METHODS = [f"/{each.full_name}/{method.name}" for each in (SERVICE, OPEN_INFERENCE) for method in each.methods]
REFLECT = [f"/{name}/ServerReflectionInfo" for name in REFLECTIONS]
Start = Callable[..., RunningServer]


@pytest.fixture
def server(start_server: Start, repository_folder: Path, tokens: Path) -> RunningServer:
    """A server with the file of tokens."""
    return start_server(repository_folder, tokens=tokens)


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """A channel to that server, which sends no token by itself."""
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def call(channel: grpc.Channel, method: str, *metadata: tuple[str, str]) -> Any:
    """The end of a call with an empty message: its status, as an exception if it failed."""
    stream: Any = channel.stream_stream(method)
    replies = stream(iter([b""]), timeout=10, metadata=metadata)
    try:
        list(replies)
    except grpc.RpcError as error:
        return error
    return replies


def may_call(address: str, token: str) -> bool:
    """Whether a token is in force."""
    with grpc.insecure_channel(address) as channel:
        code = call(channel, f"/{SERVICE.full_name}/ListModels", ("authorization", f"Bearer {token}")).code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    return code is grpc.StatusCode.OK


def wait_until(is_so: Callable[[], bool]) -> None:
    """Until something is so, which has to be in time."""
    ends_s = time.monotonic() + IN_FORCE_S
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.05)


def test_a_client_with_a_token_is_answered(server: RunningServer, png: Png) -> None:
    with Client(server.address, token=ALICES) as client:
        client.wait_until_ready(10)
        assert client.classify(png(1), model="bands").best.label == "middle"
        assert [answer.best.label for answer in client.classify_many([png(0)], model="bands")] == ["top"]  # type: ignore[union-attr]


@pytest.mark.parametrize("method", METHODS + REFLECT)
@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", f"Bearer {BOBS}")],
        [("authorization", f"Basic {ALICES}")],
        [("authorization", ALICES)],
        [("authorization", f"Bearer {ALICES}"), ("authorization", f"Bearer {ALICES}")],
        [("x-authorization", f"Bearer {ALICES}")],
    ],
    ids=["none", "unknown", "another scheme", "no scheme", "two", "another header"],
)
def test_a_call_without_a_known_token_is_refused_for_good(
    channel: grpc.Channel, method: str, metadata: list[tuple[str, str]]
) -> None:
    error = call(channel, method, *metadata)
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error.details().startswith("wanted ")
    assert ALICES not in error.details()
    trailers = dict(error.trailing_metadata())
    assert trailers["grpc-retry-pushback-ms"] == "-1"
    status, info = Status.FromString(trailers["grpc-status-details-bin"]), ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("TOKEN_INVALID", "inkling")


def test_every_method_is_open_to_a_known_token_and_no_more_than_unknown_ones_are_to_others(
    channel: grpc.Channel,
) -> None:
    for method in METHODS + REFLECT:
        assert (
            call(channel, method, ("authorization", f"bearer {ALICES}")).code() is not grpc.StatusCode.UNAUTHENTICATED
        )
    assert call(channel, f"/{SERVICE.full_name}/Unknown").code() is grpc.StatusCode.UNIMPLEMENTED


def test_health_is_open_to_everybody(channel: grpc.Channel, server: RunningServer) -> None:
    assert health.ask(server.address, "bands", timeout_s=10) == "SERVING"
    stub: Any = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    assert call(channel, f"/{HEALTH}/List").code() is grpc.StatusCode.OK
    assert call(channel, f"/{HEALTH}/Check", ("authorization", "Bearer unknown")).code() is grpc.StatusCode.OK


def test_reflection_is_answered_for_a_known_token(channel: grpc.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    for method in REFLECT:
        ask: Any = channel.stream_stream(method, None, reflection_pb2.ServerReflectionResponse.FromString)
        (reply,) = ask(iter([request]), metadata=[("authorization", f"Bearer {ALICES}")])
        assert SERVICE.full_name in {service.name for service in reply.list_services_response.service}


def test_a_large_message_of_an_unknown_caller_is_not_waited_for(channel: grpc.Channel) -> None:
    """The refusal comes while the caller is still sending: no message is read before it is known whose it is."""
    classify: Any = channel.stream_stream(f"/{SERVICE.full_name}/Classify")

    def never_send() -> Iterator[bytes]:
        time.sleep(3)
        yield b""

    began_s = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        list(classify(never_send(), timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - began_s < 2


@pytest.mark.slow
def test_tokens_that_change_are_in_force_in_time(server: RunningServer, tokens: Path) -> None:
    """A second one comes, then the first one goes, then the file is broken, and at last whole again."""
    with tokens.open("a") as file:
        file.write(f"bob {BOBS}\n")
    wait_until(lambda: may_call(server.address, BOBS))
    assert may_call(server.address, ALICES)
    tokens.write_text(f"bob {BOBS}\n")
    wait_until(lambda: not may_call(server.address, ALICES))
    tokens.write_text(f"alice {ALICES} and more\n")
    time.sleep(2.5)
    assert may_call(server.address, BOBS)
    assert not may_call(server.address, ALICES)
    tokens.write_text(f"alice {ALICES}\n")
    wait_until(lambda: may_call(server.address, ALICES))
    assert not may_call(server.address, BOBS)


def test_the_calls_of_a_name_are_bounded_and_those_of_others_go_on(
    start_server: Start, repository_folder: Path, tokens: Path
) -> None:
    """Two calls whose messages never come are under way."""
    tokens.write_text(f"alice {ALICES}\nbob {BOBS}\n")
    server = start_server(repository_folder, tokens=tokens, max_token_calls=2)
    alice = [("authorization", f"Bearer {ALICES}")]
    method = f"/{SERVICE.full_name}/ListModels"
    with grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        reflect: Any = channel.stream_stream(REFLECT[0])
        request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()

        def ask_and_wait() -> Iterator[bytes]:
            yield request
            time.sleep(30)

        under_way = [reflect(ask_and_wait(), metadata=alice) for _ in range(2)]
        for stream in under_way:
            next(stream)
        error = call(channel, method, *alice)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "wanted at most 2 calls of alice under way, got one more"
        assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
        assert call(channel, method, ("authorization", f"Bearer {BOBS}")).code() is grpc.StatusCode.OK
        for stream in under_way:
            stream.cancel()
        wait_until(lambda: call(channel, method, *alice).code() is grpc.StatusCode.OK)


def test_the_commands_take_the_token_from_a_file(
    server: RunningServer, png: Png, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, token = tmp_path / "image.png", tmp_path / "token"
    image.write_bytes(png(1))
    token.write_text(f"{ALICES}\n")
    flags = ["--address", server.address, "--model", "bands", str(image)]
    assert classify.main([*flags, "--token-file", str(token)]) == 0
    assert classify.main(flags) == 1
    assert "FAILED  UNAUTHENTICATED: wanted one authorization in the metadata" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        classify.main([*flags, "--token-file", str(tmp_path / "none")])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("serve.client: --token-file: cannot read ")
