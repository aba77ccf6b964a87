"""serve.api.gate: how a failure leaves the server, and what it leaves behind, over a real connection."""

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.api.gate import CallGate
from serve.api.inkling_v1 import SERVICE
from serve.api.receiving import Receiver
from serve.api.security.tokens import TokenFile
from serve.errors import NotFound, Overloaded, TooManyCalls
from serve.machine.memory import MemoryGrowth
from serve.pb import classifier_pb2 as pb
from serve.telemetry.calls import Call

GET_MODEL = SERVICE.methods_by_name["GetModel"]
Method = Callable[[pb.GetModelRequest, Call], Awaitable[pb.GetModelResponse]]


@asynccontextmanager
async def serving(gate: CallGate, method: Method) -> Any:
    """A caller of the one method of a server."""
    server = grpc.aio.server()
    handlers = {"GetModel": gate.unary(GET_MODEL, method)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    policy = {"maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "1s", "backoffMultiplier": 1}
    retried = {"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "NOT_FOUND"]}
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy | retried}]})
    options = [("grpc.service_config", config)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel.unary_unary(f"/{SERVICE.full_name}/GetModel")
    await server.stop(None)


async def fail(request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
    """Fail as the request says."""
    raise {"busy": Overloaded("busy"), "many": TooManyCalls("many"), "missing": NotFound("missing")}[request.model]


def count_calls(model: str, draining: bool = False) -> tuple[int, grpc.StatusCode]:
    """How often a call of a retrying client comes to the server, and how it ends."""

    async def main() -> tuple[int, grpc.StatusCode]:
        gate = CallGate(Receiver(MemoryGrowth(2**30)))
        gate.is_draining = draining
        async with serving(gate, fail) as get_model:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get_model(pb.GetModelRequest(model=model).SerializeToString())
        return gate.call_count, caught.value.code()

    return asyncio.run(main())


def test_a_client_retries_what_says_that_it_may() -> None:
    assert count_calls("busy") == (4, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert count_calls("many") == (4, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert count_calls("busy", draining=True) == (4, grpc.StatusCode.UNAVAILABLE)


def test_a_client_does_not_retry_what_is_its_own_fault_whatever_its_policy_says() -> None:
    assert count_calls("missing") == (1, grpc.StatusCode.NOT_FOUND)


def test_bytes_that_are_no_message_are_refused_like_any_other_fault() -> None:
    async def main() -> str:
        async with serving(CallGate(Receiver(MemoryGrowth(2**30))), fail) as get_model:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get_model(b"\xff\xff\xff")
        return f"{caught.value.code().name}: {caught.value.details()}"

    wanted = "INVALID_ARGUMENT: wanted the message inkling.v1.GetModelRequest, got 3 bytes that are none"
    assert asyncio.run(main()) == wanted


def test_the_log_names_the_caller_of_a_call_that_the_server_fails_and_shows_no_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    file.write_text("alice alices-secret\n")

    async def main() -> grpc.StatusCode:
        gate = CallGate(Receiver(MemoryGrowth(2**30)), tokens=TokenFile(file))
        metadata = [("authorization", "Bearer alices-secret"), ("x-request-id", "id-1")]
        async with serving(gate, fail) as get_model:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get_model(pb.GetModelRequest(model="unknown").SerializeToString(), metadata=metadata)
        return caught.value.code()

    assert asyncio.run(main()) is grpc.StatusCode.INTERNAL
    assert "request id-1 of alice failed" in caplog.messages
    assert "alices-secret" not in caplog.text


def test_a_call_counts_as_running_until_it_has_ended() -> None:
    """A stop waits for those that run, and no longer."""

    async def main() -> tuple[int, int, bool, bool, int, int]:
        gate, going_on = CallGate(Receiver(MemoryGrowth(2**30))), asyncio.Event()

        async def wait(request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
            await going_on.wait()
            return pb.GetModelResponse()

        async with serving(gate, wait) as get_model:
            call = get_model(b"")
            while not gate.running:
                await asyncio.sleep(0.001)
            running, ended, is_idle_early = gate.running, gate.ended_count, await gate.wait_until_idle(0.2)
            going_on.set()
            await call
            return running, ended, is_idle_early, await gate.wait_until_idle(30), gate.running, gate.ended_count

    assert asyncio.run(main()) == (1, 0, False, True, 0, 1)


def test_a_stop_waits_while_calls_come_and_not_for_longer_than_it_may() -> None:
    async def measure_s(longest_s: float, come: bool) -> float:
        gate, start_s = CallGate(Receiver(MemoryGrowth(2**30))), time.monotonic()
        waiting = asyncio.create_task(gate.wait_until_quiet(longest_s))
        while not waiting.done():
            gate.call_count += come
            await asyncio.sleep(0.001)
        return time.monotonic() - start_s

    assert 0.04 < asyncio.run(measure_s(60, come=False)) < 30
    assert asyncio.run(measure_s(0.5, come=True)) >= 0.5


def test_a_call_that_has_ended_gives_its_place_back_however_it_ended(tmp_path: Path) -> None:
    """Of a name that may have one at a time."""
    file = tmp_path / "tokens"
    file.write_text("alice alices-secret\n")

    async def main() -> list[grpc.StatusCode]:
        gate = CallGate(Receiver(MemoryGrowth(2**30)), tokens=TokenFile(file, max_calls=1))
        codes = []
        async with serving(gate, fail) as get_model:
            for model in ("missing", "unknown", "missing"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await get_model(
                        pb.GetModelRequest(model=model).SerializeToString(),
                        metadata=[("authorization", "Bearer alices-secret")],
                    )
                codes.append(caught.value.code())
        return codes

    assert asyncio.run(main()) == [
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.NOT_FOUND,
    ]


def test_a_failed_call_keeps_nothing_of_its_request() -> None:
    """Without the garbage collector: a circle would hold every refused image until it comes by."""

    async def main() -> int:
        async with serving(CallGate(Receiver(MemoryGrowth(2**30))), fail) as get_model:
            large = pb.GetModelRequest(model="missing", version="v" * 1_000_000).SerializeToString()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(20):
                with pytest.raises(grpc.aio.AioRpcError):
                    await get_model(large)
            await asyncio.sleep(0.1)
            return tracemalloc.get_traced_memory()[0] - before

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        assert asyncio.run(main()) < 500_000
    finally:
        tracemalloc.stop()
        gc.enable()
