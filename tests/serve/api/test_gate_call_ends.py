"""serve.api.gate: a call's request ID, token and span, what is left when it has ended, and how a stop waits for it."""

import asyncio
import gc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from serve.api.gate import CallGate
from serve.api.open_inference.service import SERVICE
from serve.api.receiving import Receiver
from serve.api.security.tokens import TokenFile
from serve.machine.memory import MemoryGrowth
from serve.telemetry.calls import Call
from tests.serve.api.test_gate_counts import KINDS, end_all, serving

TOKEN = ("authorization", "Bearer alices-secret")


@KINDS
def test_a_caller_that_leaves_is_no_error_in_the_log(kind: str, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a deadline that passes; gRPC logs whatever a handler raises that it does not expect."""

    async def main() -> dict[tuple[str, ...], int]:
        async with serving() as calls:
            calls.take_counts()
            assert await calls.call(kind, "endless", timeout_s=0.5) == "DEADLINE_EXCEEDED"
            await end_all(calls.gate)
        return calls.take_counts()

    ((*counted, code),) = asyncio.run(main())
    assert counted == [method, "bands", "2"]
    assert code in {"DEADLINE_EXCEEDED", "CANCELLED"}  # the second if the call was long on its way to the server
    assert not caplog.records


@pytest.mark.parametrize("kind", ["unary", "stream"])
@pytest.mark.parametrize("name", ["good", "missing"])
def test_a_call_that_has_ended_leaves_nothing_to_the_garbage_collector(kind: str, name: str) -> None:
    """A failed one makes a circle of gRPC's context, the exception that ends it, and the frame that raised that.

    The last one may be there a moment longer.
    """

    async def main() -> int:
        async with serving() as calls:
            for _ in range(5):
                await calls.call(kind, name)
            await end_all(calls.gate)
            await asyncio.sleep(0.05)
            return sum(type(each) is Call for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main()) <= 1
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["unary", "stream"])
@pytest.mark.parametrize("name", ["good", "missing"])
def test_a_call_gives_back_the_request_id_that_it_came_with(kind: str, name: str) -> None:
    async def main() -> list[str | None]:
        found = []
        async with serving() as calls:
            for metadata in ((("x-request-id", "id-7"),), ()):
                await calls.call(kind, name, metadata=metadata)
                found.append(dict(await calls.last.trailing_metadata()).get("x-request-id"))
        return found

    assert asyncio.run(main()) == [None if (kind, name) == ("stream", "good") else "id-7", None]


def test_a_call_without_a_token_is_refused_before_its_message_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("alice alices-secret\n")

    async def main() -> list[str]:
        async with serving(tokens=TokenFile(file)) as calls:
            codes = [await calls.call(kind, "good") for kind in ("unary", "stream")]
            codes += [await calls.call(kind, "good", metadata=(TOKEN,)) for kind in ("unary", "stream")]
            silent: Any = calls.channel.stream_unary(f"/{SERVICE.full_name}/ModelReady")()
            codes.append((await asyncio.wait_for(silent.code(), 5)).name)
        return codes

    assert asyncio.run(main()) == ["UNAUTHENTICATED"] * 2 + ["OK"] * 2 + ["UNAUTHENTICATED"]


class Record:
    """Takes note of the spans that begin and end, as serve.telemetry.tracing.Tracing would send them."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str | None]] = []
        self.ended: list[str] = []

    def start(self, call: Call, method: str, metadata: Iterable[tuple[str, Any]]) -> None:
        """Note the method, and whose trace it is in."""
        self.begun.append((method, dict(metadata).get("traceparent")))

    def end(self, call: Call) -> None:
        """Note how it ended."""
        self.ended.append(call.code)


def test_the_span_of_a_call_begins_and_ends_with_it() -> None:
    async def main() -> Record:
        record = Record()
        async with serving(tracing=record) as calls:
            await calls.call("unary", "good", metadata=(("traceparent", "p-1"),))
            await calls.call("stream", "missing")
            await end_all(calls.gate)
        return record

    record = asyncio.run(main())
    assert record.begun == [("ModelReady", "p-1"), ("ModelStreamInfer", None)]
    assert record.ended == ["OK", "NOT_FOUND"]


def test_a_stop_begins_to_wait_again_at_each_call_that_comes() -> None:
    """And at each handler that runs: a moment without any is a moment from its beginning to its end."""

    async def main() -> tuple[bool, bool, bool]:
        gate = CallGate(Receiver(MemoryGrowth(2**30)))
        waiting = [asyncio.create_task(gate.wait_until_quiet(60)), asyncio.create_task(gate.wait_until_idle(60))]
        for _ in range(20):  # five looks are 50 ms
            gate.call_count += 1
            gate.running = 1
            await asyncio.sleep(0.011)
            gate.running = 0
            await asyncio.sleep(0.011)
        early = [task.done() for task in waiting]
        return *early, (await asyncio.gather(*waiting))[1]

    assert asyncio.run(main()) == (False, False, True)
