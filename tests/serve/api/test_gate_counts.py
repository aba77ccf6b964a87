"""serve.api.gate: what is counted of a call, by its method, its model and how it ended."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from serve.api.gate import CallGate
from serve.api.inkling_v1 import SERVICE as CLASSIFIER
from serve.api.open_inference.service import SERVICE
from serve.api.receiving import Receiver
from serve.api.standard.calls import guard
from serve.api.streams import Requests
from serve.errors import NotFound, Overloaded
from serve.machine.memory import MemoryGrowth
from serve.pb import open_inference_pb2 as pb
from serve.telemetry.calls import Call
from serve.telemetry.counts import Counts

READY = SERVICE.methods_by_name["ModelReady"]
STREAM = SERVICE.methods_by_name["ModelStreamInfer"]
SLOW_S = 0.05
FAILURES: dict[str, type[Exception]] = {"missing": NotFound, "busy": Overloaded, "broken": ValueError}


class Methods:
    """A method of each kind, which does what the name of the model says."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        """The names that came."""

    async def be_ready(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        """Answer with a message."""
        await self._act(request.name, call)
        return pb.ModelReadyResponse(ready=True)

    async def infer(
        self, requests: Requests[pb.ModelInferRequest], call: Call
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Answer each message with one."""
        async for request in requests:
            await self._act(request.model_name, call)
            yield pb.ModelStreamInferResponse()

    async def _act(self, name: str, call: Call) -> None:
        call.served_by = ("bands", "2")
        self.begun.append(name)
        await asyncio.sleep({"slow": SLOW_S, "endless": 30}.get(name, 0))
        if name in FAILURES:
            raise FAILURES[name]()


class Calls:
    """A server of both kinds of methods, and what it was asked."""

    def __init__(self, channel: grpc.aio.Channel, counts: Counts, gate: CallGate, methods: Methods) -> None:
        self.counts, self.gate, self.methods = counts, gate, methods
        self.channel = channel
        self.last: Any = None

    async def call(self, kind: str, name: str, timeout_s: float | None = None, **options: Any) -> str:
        """The code that one call ends with."""
        if kind == "unary":
            method: Any = self.channel.unary_unary(f"/{SERVICE.full_name}/ModelReady")
            self.last = method(pb.ModelReadyRequest(name=name).SerializeToString(), timeout=timeout_s, **options)
        else:
            method = self.channel.stream_stream(f"/{SERVICE.full_name}/ModelStreamInfer")
            request = pb.ModelInferRequest(model_name=name).SerializeToString()
            self.last = method(iter([request]), timeout=timeout_s, **options)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                while await self.last.read() is not grpc.aio.EOF:
                    pass
        return str((await self.last.code()).name)

    def take_counts(self) -> dict[tuple[str, ...], int]:
        """How many calls ended since the last time, by method, model, version and code."""
        histograms = self.counts.take().histograms
        return {key[1:]: sum(buckets[:-1]) for key, buckets in histograms.items() if any(buckets)}


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Calls]:
    counts = Counts()
    gate = CallGate(Receiver(MemoryGrowth(2**30)), counts, **settings)
    methods = Methods()
    handlers = {
        "ModelReady": gate.unary(READY, methods.be_ready),
        "ModelStreamInfer": gate.stream(STREAM, methods.infer),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(20):
        yield Calls(channel, counts, gate, methods)
    await server.stop(None)


async def end_all(gate: CallGate) -> None:
    """Wait until no handler runs; a caller may know the end of its call a moment before."""
    while gate.running:
        await asyncio.sleep(0.001)


KINDS = pytest.mark.parametrize(
    ("kind", "method"), [("unary", "ModelReady"), ("stream", "ModelStreamInfer")], ids=["unary", "stream"]
)


@KINDS
def test_each_call_is_counted_once_by_its_model_and_code(kind: str, method: str) -> None:
    async def main() -> dict[tuple[str, ...], int]:
        async with serving() as calls:
            calls.take_counts()
            for name in ("good", "good", "missing", "broken"):
                await calls.call(kind, name)
            leaving = asyncio.create_task(calls.call(kind, "endless"))
            while "endless" not in calls.methods.begun:
                await asyncio.sleep(0.001)
            calls.last.cancel()
            assert await leaving == "CANCELLED"
            await end_all(calls.gate)
            return calls.take_counts()

    wanted = {"OK": 2, "NOT_FOUND": 1, "INTERNAL": 1, "CANCELLED": 1}
    assert asyncio.run(main()) == {(method, "bands", "2", code): count for code, count in wanted.items()}


@KINDS
def test_a_call_is_counted_with_its_duration_in_microseconds(kind: str, method: str) -> None:
    async def main() -> list[int]:
        async with serving() as calls:
            calls.take_counts()
            await calls.call(kind, "slow")
            await end_all(calls.gate)
            return calls.counts.take().histograms["call", method, "bands", "2", "OK"]

    *_, sum_us = asyncio.run(main())
    assert SLOW_S <= sum_us / 1e6 < 20


@KINDS
def test_what_the_state_of_the_server_refuses_is_counted_by_model_and_reason(kind: str, method: str) -> None:
    """What is the caller's fault is no refusal, nor is a call that the server failed."""

    async def main() -> dict[tuple[str, ...], int]:
        async with serving() as calls:
            for name in ("busy", "missing", "broken", "good"):
                await calls.call(kind, name)
            calls.gate.is_draining = True
            assert await calls.call(kind, "good") == "UNAVAILABLE"
            await end_all(calls.gate)
            counters = calls.counts.take().counters
            return {key[1:]: count for key, count in counters.items() if key[0] == "refused" and count}

    assert asyncio.run(main()) == {("bands", "OVERLOADED"): 1, ("unknown", "DRAINING"): 1}


@pytest.mark.parametrize(
    ("service", "without_model"),
    [
        (SERVICE, {"ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex"}),
        (CLASSIFIER, {"ListModels"}),
    ],
    ids=["open inference", "classifier"],
)
def test_only_methods_whose_requests_name_a_model_have_a_series_of_it(service: Any, without_model: set[str]) -> None:
    counts = Counts()
    gate = CallGate(Receiver(MemoryGrowth(2**30)), counts)
    for name, method in service.methods_by_name.items():
        if method.client_streaming:
            gate.stream(method, Methods().infer)
        else:
            gate.unary(method, Methods().be_ready)
        assert ("call", name, "unknown", "", "OK") in counts.take().histograms
    guard(gate, {"Check": grpc.unary_unary_rpc_method_handler(lambda *_: b"")})
    assert ("call", "Check", "unknown", "", "OK") in counts.take().histograms
    counts.declare_model("bands")
    methods = {key[1] for key in counts.take().histograms if key[0] == "call"}
    assert methods == set(service.methods_by_name) - without_model
