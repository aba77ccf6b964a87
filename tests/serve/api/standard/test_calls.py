"""serve.api.standard.calls: calls are counted, guarded by tokens, and answered while the server drains."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.api.gate import CallGate
from serve.api.receiving import Receiver
from serve.api.security.tokens import TokenFile
from serve.api.standard.calls import guard
from serve.machine.memory import MemoryGrowth
from serve.telemetry.counts import Counts, Tally

TOKEN = (("authorization", "Bearer alices-secret"),)


async def answer(request: bytes, context: Any) -> bytes:
    """Do what the request says, and give it back."""
    if request == b"endless":
        await asyncio.sleep(30)
    if request == b"missing":
        await context.abort(grpc.StatusCode.NOT_FOUND, "missing")
    if request == b"broken":
        raise ValueError("broken")
    return request


async def answer_twice(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield await answer(request, context)
    yield request


async def answer_last(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return [await answer(request, context) async for request in requests][-1]


async def answer_each(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield await answer(request, context)


METHODS = {
    "unary_unary": answer,
    "unary_stream": answer_twice,
    "stream_unary": answer_last,
    "stream_stream": answer_each,
}
KINDS = pytest.mark.parametrize("kind", METHODS)


class Calls:
    """A server with a method of each kind, named by its kind."""

    def __init__(self, channel: grpc.aio.Channel, gate: CallGate, counts: Counts) -> None:
        self.gate, self.counts = gate, counts
        self._channel = channel
        self.last: Any = None

    def begin(self, kind: str, text: bytes, **options: Any) -> Any:
        """A call of one request."""
        method = getattr(self._channel, kind)(f"/standard/{kind}")
        self.last = method(iter([text]) if kind.startswith("stream") else text, **options)
        return self.last

    async def call(self, kind: str, text: bytes, **options: Any) -> tuple[list[bytes], str]:
        """The replies of a call, and the code that it ends with."""
        call, replies = self.begin(kind, text, **options), []
        try:
            if kind.endswith("unary"):
                replies.append(await call)
            else:
                while (reply := await call.read()) is not grpc.aio.EOF:
                    replies.append(reply)
        except grpc.aio.AioRpcError:
            pass
        return replies, (await call.code()).name

    async def wait_for_counts(self, count: int) -> tuple[dict[str, int], dict[tuple[str, ...], int]]:
        """How many of `count` calls ended with each code, and what was refused.

        A caller may know the end of its call a moment before the server counts it.
        """
        tally, codes = Tally(), Counter[str]()
        while codes.total() < count:
            await asyncio.sleep(0.001)
            tally.add(self.counts.take())
            codes = Counter({key[4]: sum(buckets[:-1]) for key, buckets in tally.histograms.items() if any(buckets)})
        return dict(codes), {key: number for key, number in tally.counters.items() if number}


@asynccontextmanager
async def serving(is_open: bool = False, tokens: TokenFile | None = None) -> AsyncIterator[Calls]:
    counts = Counts()
    gate = CallGate(Receiver(MemoryGrowth(2**30)), counts, tokens=tokens)
    made: dict[str, Any] = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(method) for kind, method in METHODS.items()
    }
    handlers = guard(gate, made, is_open=True) if is_open else guard(gate, made)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("standard", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(20):
        yield Calls(channel, gate, counts)
    await server.stop(None)


def make_tokens(folder: Path, max_calls: int = 0) -> TokenFile:
    (folder / "tokens").write_text("alice alices-secret\n")
    return TokenFile(folder / "tokens", max_calls)


@KINDS
def test_a_standard_call_is_counted_by_its_code_and_answered_while_draining(kind: str) -> None:
    async def main() -> tuple[list[tuple[list[bytes], str]], int, dict[str, int]]:
        async with serving() as calls:
            calls.gate.is_draining = True
            calls.gate.end_streams()
            ends = [await calls.call(kind, text) for text in (b"good", b"good", b"missing", b"broken")]
            counted, _ = await calls.wait_for_counts(4)
            return ends, calls.gate.call_count, counted

    replies = [b"good", b"good"] if kind == "unary_stream" else [b"good"]
    ends, call_count, counted = asyncio.run(main())
    assert ends[:2] == [(replies, "OK")] * 2
    assert [code for _, code in ends[2:]] == ["NOT_FOUND", "UNKNOWN"]
    assert call_count == 4
    assert counted == {"OK": 2, "NOT_FOUND": 1, "UNKNOWN": 1}


@KINDS
def test_a_standard_call_whose_caller_leaves_is_counted_as_cancelled(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not count as running, for it lasts as long as its caller likes. Its end is no error in the log."""

    async def main() -> tuple[int, int, dict[str, int]]:
        async with serving() as calls:
            leaving = calls.begin(kind, b"endless")
            while not calls.gate.call_count:
                await asyncio.sleep(0.001)
            running, ended = calls.gate.running, calls.gate.ended_count
            leaving.cancel()
            return running, ended, (await calls.wait_for_counts(1))[0]

    assert asyncio.run(main()) == (0, 1, {"CANCELLED": 1})
    assert not caplog.records


@KINDS
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "with tokens"])
def test_only_an_open_service_answers_without_a_token(kind: str, is_open: bool, tmp_path: Path) -> None:
    async def main() -> tuple[list[str], dict[str, int]]:
        async with serving(is_open, make_tokens(tmp_path)) as calls:
            codes = [(await calls.call(kind, b"good", metadata=metadata))[1] for metadata in ((), TOKEN)]
            return codes, (await calls.wait_for_counts(2))[0]

    codes, counted = asyncio.run(main())
    assert codes == ["OK" if is_open else "UNAUTHENTICATED", "OK"]
    assert counted == {code: codes.count(code) for code in codes}


@KINDS
def test_a_standard_call_takes_a_place_of_its_name_and_gives_it_back(kind: str, tmp_path: Path) -> None:
    """Of a name that may have one call at a time. A second one meanwhile is refused, and counted as refused."""

    async def main() -> tuple[list[str], dict[tuple[str, ...], int]]:
        async with serving(tokens=make_tokens(tmp_path, max_calls=1)) as calls:
            codes = [(await calls.call(kind, text, metadata=TOKEN))[1] for text in (b"good", b"missing", b"broken")]
            leaving = calls.begin(kind, b"endless", metadata=TOKEN)
            while calls.gate.call_count < 4:
                await asyncio.sleep(0.001)
            codes.append((await calls.call(kind, b"good", metadata=TOKEN))[1])
            leaving.cancel()
            _, refused = await calls.wait_for_counts(5)
            codes.append((await calls.call(kind, b"good", metadata=TOKEN))[1])
            return codes, refused

    codes, refused = asyncio.run(main())
    assert codes == ["OK", "NOT_FOUND", "UNKNOWN", "RESOURCE_EXHAUSTED", "OK"]
    assert refused == {("refused", "unknown", "TOO_MANY_CALLS"): 1}


def test_a_standard_call_without_a_token_is_told_what_was_wanted(tmp_path: Path) -> None:
    async def main() -> str:
        async with serving(tokens=make_tokens(tmp_path)) as calls:
            await calls.call("unary_unary", b"good")
            return str(await calls.last.details())

    assert asyncio.run(main()).startswith("wanted one authorization in the metadata")


def test_a_standard_handler_keeps_how_its_messages_are_read_and_written() -> None:
    gate = CallGate(Receiver(MemoryGrowth(2**30)))
    handler = grpc.unary_unary_rpc_method_handler(answer, bytes.upper, bytes.lower)  # type: ignore[arg-type]  # a coroutine
    made = guard(gate, {"Check": handler})["Check"]
    assert (made.request_deserializer, made.response_serializer) == (bytes.upper, bytes.lower)
    assert (made.request_streaming, made.response_streaming) == (False, False)
