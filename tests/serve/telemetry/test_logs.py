"""serve.telemetry.logs: one line an event, as text or JSON, of all processes; and each failure's request id."""

import asyncio
import io
import json
import logging
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from serve.api.gate import CallGate
from serve.api.inkling_v1 import SERVICE
from serve.api.receiving import Receiver
from serve.client.client import Client
from serve.errors import CallError
from serve.machine.memory import MemoryGrowth
from serve.pb import classifier_pb2 as pb
from serve.telemetry.calls import Call
from serve.telemetry.logs import JsonFormatter, JsonStream, TextFormatter, is_news, to_json_line
from tests.serve.telemetry.running import running
from tests.support import Png


def make_record(error: Exception) -> logging.LogRecord:
    """What a logger makes of an exception."""
    try:
        raise error
    except Exception:
        return logging.LogRecord("grpc._cython.cygrpc", logging.ERROR, "server", 1, "raised", (), sys.exc_info())


def test_an_answer_whose_caller_has_left_is_the_only_failure_not_logged() -> None:
    assert not is_news(make_record(cygrpc.ExecuteBatchError("Failed")))
    assert is_news(make_record(cygrpc.InternalError("Failed")))
    assert is_news(logging.LogRecord("grpc._cython.cygrpc", logging.ERROR, "server", 1, "odd", (), None))


def format_event(form: str, message: str, error: Exception | None = None) -> str:
    """What the log writes of an event."""
    record = (
        make_record(error) if error else logging.LogRecord("name", logging.INFO, "server", 1, "%s", (message,), None)
    )
    if error:
        record.msg = message
    return (JsonFormatter() if form == "json" else TextFormatter()).format(record)


def test_an_event_is_one_json_object_on_one_line() -> None:
    line = format_event("json", 'two\nlines, "quotes" and \x1b[31mred', ZeroDivisionError("a\nb"))
    event = json.loads(line)
    assert "\n" not in line
    assert event["message"] == 'two\nlines, "quotes" and \x1b[31mred'
    assert event["level"] == "ERROR"
    assert event["traceback"].endswith("ZeroDivisionError: a\nb")
    assert set(event) == {"time", "level", "logger", "message", "process", "traceback"}


def test_no_text_of_a_caller_passes_for_an_event_or_steers_a_terminal() -> None:
    forged = "2026-01-01 00:00:00,000 1 INFO serve: all is well"
    for text in (
        format_event("text", f"a\n{forged}\x1b[2J\r"),
        format_event("text", "failed", ValueError(f"a\n{forged}")),
    ):
        _, *rest = text.split("\n")
        assert rest
        assert all(line.startswith("\t") for line in rest)
        assert all(each.isprintable() or each in "\n\t" for each in text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("plain words\n", "plain words"),
        ('["a", "list"]\n', '["a", "list"]'),
        ("\udcff\x00\n", "\udcff\x00"),
        ("7\n", "7"),
    ],
)
def test_a_line_that_is_no_object_becomes_one(line: str, message: str) -> None:
    found = to_json_line(line, "stderr")
    assert found.endswith("}\n")
    assert "\n" not in found[:-1]
    assert json.loads(found)["message"] == message


def test_a_line_that_is_an_object_stays_as_it_is() -> None:
    assert to_json_line('{"message": "as it was"}\n', "stderr") == '{"message": "as it was"}\n'


def test_a_line_that_comes_in_parts_is_one_object() -> None:
    behind = io.StringIO()
    stream = JsonStream(behind, "stdout")
    for part in ("usage: ", "serve", "\nand ", "more\n", "begun"):
        stream.write(part)
    assert [json.loads(line)["message"] for line in behind.getvalue().splitlines()] == ["usage: serve", "and more"]


def read_events(lines: list[str]) -> list[dict[str, Any]]:
    """The objects of all lines. Fails if one is none."""
    events = [json.loads(line) for line in lines]
    assert all(isinstance(event, dict) and {"time", "level", "logger", "message"} <= set(event) for event in events)
    return events


@pytest.mark.parametrize("verbosity", [{}, {"GRPC_VERBOSITY": "debug", "GRPC_TRACE": "http"}], ids=["silent", "debug"])
def test_every_line_of_all_processes_is_an_object(repository_folder: Path, png: Png, verbosity: dict[str, str]) -> None:
    """Also what gRPC's core prints, where it is asked to: it writes past Python."""
    environment = {**os.environ, **verbosity}
    with running(repository_folder, "--workers", "2", "--log-format", "json", environment=environment) as server:
        with Client(server.address) as client:
            client.classify(png(1), model="bands")
        os.kill(server.worker_pids[0], signal.SIGKILL)
        server.wait_for("is ready", 3)
        server.process.terminate()
        assert server.process.wait(20) == 0
        server.end()
        events = read_events(server.lines)
    messages = [event["message"] for event in events]
    assert any(message.startswith("settings: ") for message in messages)
    assert sum("is ready, process" in message for message in messages) == 3
    assert sum(event["message"] == "stopped" and event["logger"] == "serve.process.worker" for event in events) == 2
    assert any(event["logger"] == "stderr" for event in events) == bool(verbosity)


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_image_of_a_caller_adds_a_line_of_pillow(repository_folder: Path, png: Png, level: str) -> None:
    """Pillow logs an error for a TIFF of eight samples a pixel, and a line for each chunk of a PNG."""
    tiff = bytearray(png(1, format_name="TIFF"))
    samples = tiff.index(struct.pack("<HHI", 277, 3, 1)) + 8  # the value of the tag SamplesPerPixel
    tiff[samples] = 8
    with running(repository_folder, "--workers", "1", "--log-level", level) as server:
        with Client(server.address) as client:
            with pytest.raises(CallError, match="got one with invalid data"):
                client.classify(bytes(tiff), model="bands")
            client.classify(png(1), model="bands")
        server.process.terminate()
        assert server.process.wait(20) == 0
        server.end()
    assert not [line for line in server.lines if "PIL" in line]


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--port", "none"], 2),
        (["--no-such-flag"], 2),
        (["--help"], 0),
        (["--models", "/nowhere", "--port", "0"], 2),
    ],
)
def test_what_ends_a_start_is_told_in_objects_too(flags: list[str], code: int) -> None:
    command = [sys.executable, "-m", "serve", "--workers", "1", "--device", "cpu", "--log-format=json", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == code
    assert read_events((ended.stdout + ended.stderr).splitlines())


async def log_and_fail(request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
    """Fail in a way that nobody foresaw, or answer."""
    if request.model == "fails":
        raise ZeroDivisionError("a secret of the server")
    return pb.GetModelResponse()


async def call_with(metadata: tuple[tuple[str, str], ...], model: str) -> tuple[str, str]:
    """The code of a call with some metadata, and the request id that comes back, if any."""
    gate = CallGate(Receiver(MemoryGrowth(2**30)))
    server = grpc.aio.server()
    method = SERVICE.methods_by_name["GetModel"]
    handlers = {"GetModel": gate.unary(method, log_and_fail)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(f"/{SERVICE.full_name}/GetModel")
        call = ask(pb.GetModelRequest(model=model).SerializeToString(), metadata=metadata)
        code = (await call.code()).name
        trailers = dict(await call.trailing_metadata() or ())
    await server.stop(None)
    return code, str(trailers.get("x-request-id", ""))


@pytest.mark.parametrize("model", ["fine", "fails"])
def test_a_request_id_that_a_caller_sent_comes_back(model: str) -> None:
    _, found = asyncio.run(call_with((("x-request-id", "a-7:b/c"),), model))
    assert found == "a-7:b/c"


def test_a_failure_is_logged_with_an_id_that_its_caller_gets(caplog: pytest.LogCaptureFixture) -> None:
    code, made = asyncio.run(call_with((), "fails"))
    assert code == "INTERNAL"
    assert made
    (record,) = [record for record in caplog.records if record.name == "serve.api.status"]
    assert record.getMessage() == f"request {made} failed"
    assert record.exc_info


def test_a_good_call_that_sent_no_id_gets_none() -> None:
    assert asyncio.run(call_with((), "fine")) == ("OK", "")


@pytest.mark.parametrize("sent", ["x" * 129, "two words", ""])
def test_an_id_that_is_long_or_has_other_characters_is_replaced(sent: str, caplog: pytest.LogCaptureFixture) -> None:
    _, found = asyncio.run(call_with((("x-request-id", sent),), "fails"))
    assert found
    assert found != sent
    assert f"request {found} failed" in caplog.text


def test_two_calls_get_different_ids() -> None:
    assert len({asyncio.run(call_with((), "fails"))[1] for _ in range(3)}) == 3
