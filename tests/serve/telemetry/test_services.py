"""Every method of every service is counted under its own name and code, those of the standard services, too."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from serve.api.inkling_v1 import SERVICE
from serve.api.open_inference.service import SERVICE as OPEN_INFERENCE
from serve.api.standard.health import HEALTH
from serve.api.standard.reflection import REFLECTIONS
from serve.pb import open_inference_pb2
from tests.serve.telemetry.running import Running, find, running

STANDARD = {"Check", "Watch", "List", "ServerReflectionInfo"}


@pytest.fixture
def server(repository_folder: Path) -> Iterator[Running]:
    """A server of one worker."""
    with running(repository_folder, "--workers", "1") as server:
        assert server.address
        yield server


def call(channel: grpc.Channel, method: str, *messages: bytes) -> str:
    """The code of a call."""
    stream: Any = channel.stream_stream(method)
    replies = stream(iter(messages), timeout=10)
    with contextlib.suppress(grpc.RpcError):
        list(replies)
    return str(replies.code().name)


def test_a_call_is_counted_under_its_method_and_code(server: Running) -> None:
    unknown = health_pb2.HealthCheckRequest(service="nobody").SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        assert [call(channel, f"/{HEALTH}/List", b"") for _ in range(3)] == ["OK"] * 3
        assert call(channel, f"/{HEALTH}/Check", b"") == "OK"
        assert call(channel, f"/{HEALTH}/Check", unknown) == "NOT_FOUND"
        assert {call(channel, f"/{name}/ServerReflectionInfo") for name in REFLECTIONS} == {"OK"}
        assert call(channel, f"/{OPEN_INFERENCE.full_name}/ServerLive", b"") == "OK"
        wrong = open_inference_pb2.ModelInferRequest(model_name="nobody").SerializeToString()
        assert call(channel, f"/{OPEN_INFERENCE.full_name}/ModelInfer", wrong) == "NOT_FOUND"
        watch: Any = channel.unary_stream(f"/{HEALTH}/Watch")(b"")
        next(watch)
        watch.cancel()
    samples = server.scrape_until(lambda samples: find(samples, "inkling_requests_total") == 10)
    counted = {
        (labels["method"], labels["code"]): value
        for (name, its), value in samples.items()
        if name == "inkling_requests_total" and value
        for labels in [dict(its)]
    }
    assert counted == {
        ("List", "OK"): 3,
        ("Check", "OK"): 1,
        ("Check", "NOT_FOUND"): 1,
        ("ServerReflectionInfo", "OK"): 2,
        ("ServerLive", "OK"): 1,
        ("ModelInfer", "NOT_FOUND"): 1,
        ("Watch", "CANCELLED"): 1,
    }


def test_every_method_has_a_series_from_the_start_and_none_is_made_by_a_caller(server: Running) -> None:
    methods = {method.name for service in (SERVICE, OPEN_INFERENCE) for method in service.methods} | STANDARD
    with grpc.insecure_channel(server.address) as channel:
        for name in ("Unknown", "x" * 300, "Classify/../Other"):
            assert call(channel, f"/{SERVICE.full_name}/{name}", b"") == "UNIMPLEMENTED"
    samples = server.scrape()
    assert {dict(its)["method"] for name, its in samples if name == "inkling_requests_total"} == methods
