"""serve.api.standard: health and reflection as stock clients ask for them, over a real connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from serve.api.gate import CallGate
from serve.api.inkling_v1 import SERVICE
from serve.api.receiving import Receiver
from serve.api.standard.health import HEALTH, Health
from serve.api.standard.reflection import REFLECTIONS, Reflection
from serve.machine.memory import MemoryGrowth

SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


class Standard:
    """Both services on a server, and a channel to it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.health = Health()
        self.reflection = Reflection([SERVICE.full_name])
        self.gate = CallGate(Receiver(MemoryGrowth(2**30)))
        self.stub = health_pb2_grpc.HealthStub(channel)

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What a server takes."""
        methods = {HEALTH: self.health.handlers(self.gate)}
        methods |= dict.fromkeys(REFLECTIONS, self.reflection.handlers(self.gate))
        return tuple(grpc.method_handlers_generic_handler(name, each) for name, each in methods.items())

    async def ask(self, package: str, request: reflection_pb2.ServerReflectionRequest) -> object:
        """The answer to one request of reflection."""
        method = self.channel.stream_stream(
            f"/{package}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = method(iter([request]))
        return await call.read()


@asynccontextmanager
async def serving() -> AsyncIterator[Standard]:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        standard = Standard(channel)
        server.add_generic_rpc_handlers(standard.handlers())
        await server.start()
        yield standard
        await server.stop(None)


def run(scenario: Callable[[Standard], Awaitable[None]]) -> None:
    """Play a scenario against a server of its own."""

    async def main() -> None:
        async with serving() as standard, asyncio.timeout(20):
            await scenario(standard)

    asyncio.run(main())


async def read(watch: grpc.aio.UnaryStreamCall, count: int) -> list[int]:
    """The next statuses of a watch."""
    return [(await watch.read()).status for _ in range(count)]


def test_health_is_not_serving_before_it_is_told() -> None:
    async def scenario(standard: Standard) -> None:
        assert (await standard.stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
        standard.health.set_serving(["", "bands"])
        assert (await standard.stub.Check(health_pb2.HealthCheckRequest(service="bands"))).status == SERVING
        assert standard.gate.call_count == 2

    run(scenario)


def test_an_unknown_name_is_not_found_and_says_what_was_wanted() -> None:
    async def scenario(standard: Standard) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await standard.stub.Check(health_pb2.HealthCheckRequest(service="bands\n"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "wanted a service or a model of this server, got 'bands\\n'"

    run(scenario)


def test_every_watcher_is_sent_every_change_and_the_end() -> None:
    """Also one of a name that is not there yet, and one that comes late."""

    async def scenario(standard: Standard) -> None:
        watches = [standard.stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
        later = standard.stub.Watch(health_pb2.HealthCheckRequest(service="bands"))
        assert [await read(each, 1) for each in [*watches, later]] == [[NOT_SERVING]] * 3 + [[UNKNOWN]]
        standard.health.set_serving(["", "bands"])
        assert [await read(each, 1) for each in [*watches, later]] == [[SERVING]] * 4
        standard.health.end()
        assert [await read(each, 1) for each in [*watches, later]] == [[NOT_SERVING]] * 4
        assert [await each.read() for each in [*watches, later]] == [grpc.aio.EOF] * 4
        standard.health.set_serving([""])
        assert (await standard.stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING

    run(scenario)


def test_list_has_every_name_with_its_status() -> None:
    """Names long enough for lengths of two bytes; read by hand, for older packages lack the message."""

    async def scenario(standard: Standard) -> None:
        name = "b" * 300
        standard.health.set_serving(["", name])
        listed = await standard.channel.unary_unary(f"/{HEALTH}/List")(b"")
        entry = b"\x0a\xac\x02" + name.encode() + b"\x12\x02\x08\x01"
        size = len(entry)
        assert listed == b"\x0a\x06\x0a\x00\x12\x02\x08\x01" + b"\x0a" + bytes([size & 127 | 128, size >> 7]) + entry

    run(scenario)


def test_bytes_that_are_no_request_are_refused() -> None:
    async def scenario(standard: Standard) -> None:
        for call in (
            standard.channel.unary_unary(f"/{HEALTH}/Check")(b"\xff"),
            standard.channel.unary_stream(f"/{HEALTH}/Watch")(b"\xff").read(),
            standard.channel.stream_stream(f"/{REFLECTIONS[0]}/ServerReflectionInfo")(iter([b"\xff"])).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(scenario)


@pytest.mark.parametrize("package", REFLECTIONS)
def test_reflection_lists_the_services_in_both_versions(package: str) -> None:
    async def scenario(standard: Standard) -> None:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        reply = await standard.ask(package, request)
        names = {service.name for service in reply.list_services_response.service}
        assert names == {SERVICE.full_name, HEALTH, *REFLECTIONS}

    run(scenario)


@pytest.mark.parametrize(
    "symbol",
    ["ClassifierService", "ClassifierService.Classify", "ClassifyRequest.image", "Classification", "Model.label_sets"],
)
def test_a_symbol_is_found_by_name_whatever_it_is(symbol: str) -> None:
    async def scenario(standard: Standard) -> None:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"inkling.v1.{symbol}")
        reply = await standard.ask(REFLECTIONS[0], request)
        assert any(b"classifier.proto" in each for each in reply.file_descriptor_response.file_descriptor_proto)

    run(scenario)


@pytest.mark.parametrize("symbol", ["", "inkling.v1.Nothing", "inkling.v1.ClassifierService.Nothing", "image"])
def test_a_symbol_that_does_not_exist_is_not_found(symbol: str) -> None:
    async def scenario(standard: Standard) -> None:
        reply = await standard.ask(
            REFLECTIONS[1], reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        )
        assert reply.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

    run(scenario)


def test_a_stream_of_reflection_ends_with_the_server() -> None:
    async def scenario(standard: Standard) -> None:
        call = standard.channel.stream_stream(f"/{REFLECTIONS[0]}/ServerReflectionInfo")()
        await call.write(b"")
        await call.read()
        standard.reflection.end()
        assert await call.read() == grpc.aio.EOF

    run(scenario)
