"""serve.telemetry.tracing: a real server sends the spans of its calls to a collector that speaks OTLP over HTTP."""

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.errors import ConfigError
from serve.pb import classifier_pb2 as pb
from serve.telemetry.tracing import complete
from tests.serve.telemetry.running import find_free_port, running
from tests.support import Png

pytest.importorskip("opentelemetry.sdk", reason="needs the extra [trace]")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes spans, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Take)
        self.paths: list[str] = []
        self.spans: list[Any] = []
        self.services: set[str] = set()

    def add(self, path: str, data: bytes) -> None:
        """Keep the spans of one request."""
        self.paths.append(path)
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(names["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]


class Take(BaseHTTPRequestHandler):
    """One request to the collector."""

    server: Collector

    def do_POST(self) -> None:
        """Keep what comes."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.add(self.path, gzip.decompress(data) if self.headers["Content-Encoding"] == "gzip" else data)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, until the end of the block."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def attributes_of(span: Any) -> dict[str, str]:
    """The texts that a span carries."""
    return {each.key: each.value.string_value for each in span.attributes}


def test_a_call_has_a_span_within_its_callers_and_its_stages_inside(repository_folder: Path, png: Png) -> None:
    with (
        collecting() as collector,
        running(
            repository_folder, "--workers", "1", "--trace-endpoint", f"http://127.0.0.1:{collector.server_port}"
        ) as server,
    ):
        metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "mine"))
        with grpc.insecure_channel(server.address) as channel:
            for image in (png(1), png(1, (2000, 2000)), b"no image"):
                request = pb.ClassifyRequest(model="bands", image=image).SerializeToString()
                call = channel.unary_unary(f"/{SERVICE.full_name}/Classify").future(request, metadata=metadata)
                call.exception()
        now_ns = time.time_ns()
        server.process.terminate()
        assert server.process.wait(20) == 0
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.services == {"inkling"}
    calls = [span for span in collector.spans if span.name == "Classify"]
    assert [attributes_of(span)["inkling.code"] for span in calls] == ["OK", "OK", "INVALID_ARGUMENT"]
    for span in calls:
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert attributes_of(span)["inkling.model"] == "bands"
        assert attributes_of(span)["inkling.request_id"] == "mine"
        assert now_ns - 60e9 < span.start_time_unix_nano < span.end_time_unix_nano <= now_ns
    small, large, bad = ([each for each in collector.spans if each.parent_span_id == span.span_id] for span in calls)
    assert [stage.name for stage in small] == ["queue", "decode", "run"]
    assert [stage.name for stage in large] == ["decode", "queue", "decode", "run"]
    assert not bad
    for span, stages in ((calls[0], small), (calls[1], large)):
        times = [span.start_time_unix_nano, *(time for each in stages for time in bounds_of(each))]
        assert times == sorted(times)
        # The two clocks are read one after the other.
        assert times[-1] <= span.end_time_unix_nano + 1_000_000
    assert bounds_of(large[0])[1] - bounds_of(large[0])[0] > 1_000_000


def bounds_of(span: Any) -> tuple[int, int]:
    """Start and end."""
    return span.start_time_unix_nano, span.end_time_unix_nano


def test_a_call_that_its_caller_does_not_trace_has_none(repository_folder: Path, png: Png) -> None:
    """The caller's decision holds for the server (W3C's sampled flag)."""
    with collecting() as collector:
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with running(repository_folder, "--workers", "1", "--trace-endpoint", endpoint) as server:
            with grpc.insecure_channel(server.address) as channel:
                request = pb.ClassifyRequest(model="bands", image=png(1)).SerializeToString()
                for flag in ("00", "01"):
                    channel.unary_unary(f"/{SERVICE.full_name}/Classify")(
                        request, metadata=(("traceparent", f"00-{TRACE}-{PARENT}-{flag}"),)
                    )
            server.process.terminate()
            assert server.process.wait(20) == 0
    assert [span.name for span in collector.spans].count("Classify") == 1


def test_a_silent_collector_holds_up_neither_calls_nor_a_stop(repository_folder: Path, png: Png) -> None:
    endpoint = f"http://127.0.0.1:{find_free_port()}"
    with running(repository_folder, "--workers", "1", "--trace-endpoint", endpoint) as server:
        with grpc.insecure_channel(server.address) as channel:
            request = pb.ClassifyRequest(model="bands", image=png(1)).SerializeToString()
            channel.unary_unary(f"/{SERVICE.full_name}/Classify")(request, timeout=5)
        server.process.terminate()
        assert server.process.wait(15) == 0


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector/otlp/spans", "https://collector/otlp/spans"),
    ],
)
def test_an_endpoint_without_a_path_gets_that_of_otlp(endpoint: str, url: str) -> None:
    assert complete(endpoint) == url


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://", "/v1/traces"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="--trace-endpoint: wanted a URL"):
        complete(endpoint)


def test_without_an_endpoint_the_packages_are_not_even_imported() -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from serve.config import ServerConfig; "
        "from serve.process.server import Server\n"
        "async def main(): Server(ServerConfig(workers=1))\n"
        "asyncio.run(main()); sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0


def test_without_the_packages_an_endpoint_ends_the_start_with_advice(tmp_path: Path, repository_folder: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    command = [sys.executable, "-m", "serve", "--models", str(repository_folder), "--port", "0", "--workers", "1"]
    ended = subprocess.run(
        [*command, "--trace-endpoint", "http://127.0.0.1:4318"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": f"{tmp_path}:.", "PATH": ""},
    )
    assert ended.returncode == 2
    assert "install the extra [trace]" in ended.stderr
