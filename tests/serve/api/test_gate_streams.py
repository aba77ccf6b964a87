"""serve.api.gate: streams, over a real connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.api.gate import CallGate
from serve.api.open_inference.service import SERVICE
from serve.api.receiving import Receiver
from serve.api.security.tokens import TokenFile
from serve.api.streams import Requests
from serve.errors import NotFound
from serve.machine.memory import MemoryGrowth
from serve.pb import open_inference_pb2 as pb
from serve.telemetry.calls import Call

STREAM = SERVICE.methods_by_name["ModelStreamInfer"]
Method = Callable[[Requests[pb.ModelInferRequest], Call], AsyncIterator[pb.ModelStreamInferResponse]]


async def echo(requests: Requests[pb.ModelInferRequest], call: Call) -> AsyncIterator[pb.ModelStreamInferResponse]:
    """Give each id back; fail at the id "fail"."""
    async for request in requests:
        if request.id == "fail":
            raise NotFound("missing")
        yield pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse(id=request.id))


@asynccontextmanager
async def serving(gate: CallGate, method: Method) -> AsyncIterator[Any]:
    """A caller of the one method of a server, in bytes."""
    server = grpc.aio.server()
    handlers = {"ModelStreamInfer": gate.stream(STREAM, method)}  # type: ignore[arg-type]  # a generator is an iterator
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.stream_stream(f"/{SERVICE.full_name}/ModelStreamInfer")
    await server.stop(None)


def ask(text: str) -> bytes:
    return pb.ModelInferRequest(id=text).SerializeToString()


def read_id(data: bytes) -> str:
    return pb.ModelStreamInferResponse.FromString(data).infer_response.id


async def collect(call: Any) -> tuple[list[str], str]:
    """The ids that came, and how the stream ended."""
    ids = []
    try:
        while (data := await call.read()) is not grpc.aio.EOF:
            ids.append(read_id(data))
    except grpc.aio.AioRpcError:
        pass
    return ids, f"{(await call.code()).name}: {await call.details()}"


def run_stream(requests: list[bytes]) -> tuple[list[str], str, CallGate]:
    """Send some messages, and have what came."""

    async def main() -> tuple[list[str], str, CallGate]:
        gate = CallGate(Receiver(MemoryGrowth(2**30)))
        async with serving(gate, echo) as stream:
            call = stream()
            for request in requests:
                await call.write(request)
            await call.done_writing()
            return *await collect(call), gate

    return asyncio.run(main())


def test_a_stream_answers_each_message_and_ends_well() -> None:
    ids, end, gate = run_stream([ask("a"), ask("b"), ask("c")])
    assert (ids, end) == (["a", "b", "c"], "OK: ")
    assert (gate.call_count, gate.running) == (1 + 3, 0)


def test_a_stream_that_has_ended_gives_its_place_back(tmp_path: Path) -> None:
    """Of a name that may have one at a time."""
    file = tmp_path / "tokens"
    file.write_text("alice alices-secret\n")

    async def main() -> list[str]:
        gate, ends = CallGate(Receiver(MemoryGrowth(2**30)), tokens=TokenFile(file, max_calls=1)), []
        async with serving(gate, echo) as stream:
            for text in ("a", "fail", "b"):
                call = stream(metadata=[("authorization", "Bearer alices-secret")])
                await call.write(ask(text))
                await call.done_writing()
                ends.append((await collect(call))[1])
        return ends

    assert asyncio.run(main()) == ["OK: ", "NOT_FOUND: missing", "OK: "]


def test_a_failure_ends_a_stream_with_its_status() -> None:
    ids, end, _ = run_stream([ask("a"), ask("fail")])
    assert (ids, end) == (["a"], "NOT_FOUND: missing")


def test_a_message_that_cannot_be_parsed_ends_a_stream() -> None:
    ids, end, _ = run_stream([ask("a"), b"\xff\xff"])
    assert ids == ["a"]
    assert end == "INVALID_ARGUMENT: wanted the message inference.ModelInferRequest, got 2 bytes that are none"


@pytest.mark.parametrize("end", [lambda gate: gate.end_streams(), lambda gate: setattr(gate, "is_draining", True)])
def test_a_stream_is_refused_while_the_server_stops(end: Callable[[CallGate], None]) -> None:
    async def main() -> tuple[list[str], str]:
        gate = CallGate(Receiver(MemoryGrowth(2**30)))
        end(gate)
        async with serving(gate, echo) as stream:
            return await collect(stream())

    assert asyncio.run(main()) == ([], "UNAVAILABLE: the server is stopping and takes no new work")


def test_a_stream_ends_when_the_server_stops_and_says_that_it_did() -> None:
    """What was read is answered first; the caller has not said that there is no more."""

    async def main() -> tuple[list[str], str]:
        gate, reading, going_on = CallGate(Receiver(MemoryGrowth(2**30))), asyncio.Event(), asyncio.Event()

        async def wait(requests: Requests[Any], call: Call) -> AsyncIterator[pb.ModelStreamInferResponse]:
            async for request in requests:
                reading.set()
                await going_on.wait()
                yield pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse(id=request.id))

        async with serving(gate, wait) as stream:
            waiting, idle = stream(), stream()
            await waiting.write(ask("a"))
            await reading.wait()
            while gate.running < 2:  # the idle one may come a moment later
                await asyncio.sleep(0.001)
            gate.end_streams()
            going_on.set()
            assert (await collect(idle))[1].startswith("UNAVAILABLE: the server is stopping")
            return await collect(waiting)

    ids, end = asyncio.run(main())
    assert ids == ["a"]
    assert end == "UNAVAILABLE: the server is stopping; wanted no request after the last that has an answer"


@pytest.mark.parametrize("writes", [False, True], ids=["while it reads", "while it writes"])
def test_a_caller_that_leaves_ends_the_method(writes: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gate, ended = CallGate(Receiver(MemoryGrowth(2**30))), asyncio.Event()

        async def wait(requests: Requests[Any], call: Call) -> AsyncIterator[pb.ModelStreamInferResponse]:
            try:
                async for request in requests:
                    yield pb.ModelStreamInferResponse()
                    while writes and request:
                        yield pb.ModelStreamInferResponse(error_message="x" * 1_000_000)
            finally:
                ended.set()

        async with serving(gate, wait) as stream:
            call = stream()
            await call.write(ask("a"))
            await call.read()
            await asyncio.sleep(0.3)  # long enough to fill every buffer
            call.cancel()
            await asyncio.wait_for(ended.wait(), 5)
            await asyncio.sleep(0.1)
            assert not gate._streams

    asyncio.run(main())
    assert not [record for record in caplog.records if record.name.startswith("serve")]


def test_a_caller_that_does_not_read_is_not_read_from() -> None:
    async def main() -> int:
        gate = CallGate(Receiver(MemoryGrowth(2**30)))

        async def answer_large(requests: Requests[Any], call: Call) -> AsyncIterator[pb.ModelStreamInferResponse]:
            async for _ in requests:
                yield pb.ModelStreamInferResponse(error_message="x" * 100_000)

        async with serving(gate, answer_large) as stream:
            call = stream()

            async def write() -> None:
                for _ in range(1000):
                    await call.write(ask("y" * 10_000))
                await call.done_writing()

            writing = asyncio.create_task(write())
            await asyncio.sleep(1)
            read = gate.call_count
            await asyncio.sleep(0.2)
            assert gate.call_count == read
            replies = 0
            while await call.read() is not grpc.aio.EOF:
                replies += 1
            await writing
            assert replies == 1000
            return read

    assert 0 < asyncio.run(main()) < 500


def test_a_call_that_comes_after_the_end_of_streams_is_answered() -> None:
    """GRPC has some that no handler has yet when a server sends its clients away."""

    async def main() -> bool:
        gate = CallGate(Receiver(MemoryGrowth(2**30)))
        gate.end_streams()

        async def live(request: pb.ServerLiveRequest, call: Call) -> pb.ServerLiveResponse:
            return pb.ServerLiveResponse(live=True)

        server = grpc.aio.server()
        handlers = {"ServerLive": gate.unary(SERVICE.methods_by_name["ServerLive"], live)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            reply = await channel.unary_unary(f"/{SERVICE.full_name}/ServerLive")(b"")
        await server.stop(None)
        return pb.ServerLiveResponse.FromString(reply).live

    assert asyncio.run(main())
