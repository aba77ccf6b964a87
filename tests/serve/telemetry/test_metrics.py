"""`/metrics` of a running server: it is what its callers counted; and its port."""

import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.client.client import Client
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from serve.telemetry.counts import BOUNDS_US, CODES
from serve.telemetry.metrics import METRICS
from tests.serve.telemetry.running import Running, Sample, find, find_free_port, running
from tests.support import Png

MODELS = ("bands", "grey-bands")


@pytest.fixture(scope="module")
def server(repository_folder: Path) -> Iterator[Running]:
    """A server of two workers."""
    with running(repository_folder, "--workers", "2") as server:
        assert server.address
        yield server


def test_the_metrics_are_those_of_the_list_with_their_labels(server: Running) -> None:
    samples = server.scrape_until(lambda samples: find(samples, "inkling_model_info") == 3)
    endings = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    labels = {
        name + ending: {*metric.labels, *({"le"} if ending == "_bucket" else set())}
        for name, metric in METRICS.items()
        for ending in endings[metric.kind]
    }
    found = {name: {key for key, _ in its} for name, its in samples}
    del labels["inkling_certificate_expiry_timestamp_seconds"]  # without TLS there is none
    assert found == labels


def test_every_series_of_a_model_is_there_before_its_first_call(repository_folder: Path) -> None:
    with running(repository_folder, "--workers", "1") as server:
        assert server.address
        samples = server.scrape_until(lambda samples: find(samples, "inkling_model_info") == 3)
    methods = {method.name for method in SERVICE.methods} - {"ListModels"}
    wanted: set[Sample] = {
        ("inkling_requests_total", frozenset({("method", method), ("model", model), ("code", code)}))
        for method in methods
        for model in MODELS
        for code in CODES
    }
    for name in ("queue_duration_seconds", "decode_duration_seconds", "prepare_duration_seconds", "batch_images"):
        wanted |= {(f"inkling_{name}_count", frozenset({("model", model)})) for model in MODELS}
    for name in ("cancelled_total", "expired_total", "waiting_images"):
        wanted |= {(f"inkling_{name}", frozenset({("model", model)})) for model in MODELS}
    assert wanted <= samples.keys()
    assert not any(samples[sample] for sample in wanted)
    assert find(samples, "inkling_model_loads_total", model="bands", result="loaded") == 2
    bounds = {dict(its)["le"] for name, its in samples if name == "inkling_queue_duration_seconds_bucket"}
    assert bounds == {*(str(bound / 1e6) for bound in BOUNDS_US), "+Inf"}


def call_all(address: str, image: bytes, repeats: int, codes: Counter[tuple[str, str, str]]) -> None:
    """Good and bad calls of each kind; their codes are counted by method and model."""
    requests = [
        ("Classify", "bands", pb.ClassifyRequest(model="bands", image=image)),
        ("Classify", "bands", pb.ClassifyRequest(model="bands", image=b"no image")),
        ("Classify", "unknown", pb.ClassifyRequest(model="no such model", image=image)),
        ("Classify", "grey-bands", pb.ClassifyRequest(model="grey-bands", image=image)),
        ("BatchClassify", "bands", pb.BatchClassifyRequest(model="bands", images=[image] * 5)),
        ("BatchClassify", "bands", pb.BatchClassifyRequest(model="bands")),
        ("GetModel", "grey-bands", pb.GetModelRequest(model="grey-bands")),
        ("ListModels", "unknown", pb.ListModelsRequest()),
    ]
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        for _ in range(repeats):
            for method, model, request in requests:
                call = channel.unary_unary(f"/{SERVICE.full_name}/{method}").future(request.SerializeToString())
                codes[method, model, call.code().name] += 1


def test_under_load_the_metrics_are_what_the_callers_counted(server: Running, png: Png) -> None:
    """Scraped and parsed all the while; a model that only callers name makes no series."""
    before = server.scrape()
    counted: list[Counter[tuple[str, str, str]]] = [Counter() for _ in range(6)]
    callers = [threading.Thread(target=call_all, args=(server.address, png(1), 40, codes)) for codes in counted]
    for caller in callers:
        caller.start()
    while any(caller.is_alive() for caller in callers):
        server.scrape()
    for caller in callers:
        caller.join()
    codes = sum(counted, Counter())
    assert codes.total() == 6 * 40 * 8

    def grew(samples: dict[Sample, float], name: str, **labels: str) -> float:
        return find(samples, name, **labels) - find(before, name, **labels)

    after = server.scrape_until(lambda samples: grew(samples, "inkling_requests_total") == codes.total())
    keys = {
        (labels["method"], labels["model"], labels["code"]) for name, its in after if (labels := dict(its)).get("code")
    }
    found = {key: grew(after, "inkling_requests_total", method=key[0], model=key[1], code=key[2]) for key in keys}
    assert {key: number for key, number in found.items() if number} == codes
    assert {model for _, model, _ in keys} == {*MODELS, "unknown"}
    for method, model in {key[:2] for key in codes}:
        times = grew(after, "inkling_request_duration_seconds_count", method=method, model=model)
        assert times == sum(number for key, number in codes.items() if key[:2] == (method, model))
    images = codes["Classify", "bands", "OK"] + 5 * codes["BatchClassify", "bands", "OK"]
    for stage in ("queue", "decode", "prepare"):
        assert grew(after, f"inkling_{stage}_duration_seconds_count", model="bands") == images
    assert grew(after, "inkling_batch_images_sum", model="bands") == images
    runs = grew(after, "inkling_batch_images_count", model="bands")
    assert 0 < runs == grew(after, "inkling_inference_duration_seconds_count", model="bands") <= images
    assert find(after, "inkling_waiting_images") == 0


def test_a_call_is_on_metrics_within_a_second(server: Running, png: Png) -> None:
    with Client(server.address) as client:
        for _ in range(3):
            before = find(server.scrape(), "inkling_requests_total", method="Classify", code="OK")
            client.classify(png(1), model="bands")
            time.sleep(1)
            assert find(server.scrape(), "inkling_requests_total", method="Classify", code="OK") == before + 1


def test_refused_calls_are_counted_by_their_reason(repository_folder: Path, png: Png) -> None:
    with running(repository_folder, "--workers", "1", "--max-pending", "1") as server:
        with grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
            classify = channel.unary_unary(f"/{SERVICE.full_name}/Classify")
            request = pb.ClassifyRequest(model="bands", image=png(1, (2000, 2000))).SerializeToString()
            codes = Counter(call.code().name for call in [classify.future(request, timeout=30) for _ in range(8)])
        refused = codes["RESOURCE_EXHAUSTED"]
        assert refused
        samples = server.scrape_until(lambda samples: find(samples, "inkling_requests_total") == 8)
        assert find(samples, "inkling_refused_total", model="bands", reason="OVERLOADED") == refused
        assert find(samples, "inkling_requests_total", code="RESOURCE_EXHAUSTED", model="bands") == refused


@pytest.mark.parametrize(
    ("timeout_s", "code", "metric"),
    [(None, "CANCELLED", "inkling_cancelled_total"), (1.0, "DEADLINE_EXCEEDED", "inkling_expired_total")],
)
def test_images_that_never_ran_are_counted_by_why(
    repository_folder: Path, png: Png, timeout_s: float | None, code: str, metric: str
) -> None:
    """Images that take seconds to decode: their call ends before any of them can run."""
    with running(repository_folder, "--workers", "1") as server:
        with grpc.insecure_channel(server.address) as channel:
            request = pb.BatchClassifyRequest(model="bands", images=[png(1, (2000, 2000))] * 250)
            classify = channel.unary_unary(f"/{SERVICE.full_name}/BatchClassify")
            call = classify.future(request.SerializeToString(), timeout=timeout_s)
            if timeout_s is None:
                server.scrape_until(lambda samples: find(samples, "inkling_waiting_images") == 250)
                call.cancel()
            assert call.code().name == code
        samples = server.scrape_until(lambda samples: find(samples, metric) == 250)
    assert find(samples, metric, model="bands") == 250
    assert find(samples, "inkling_requests_total", model="bands", code=code) == 1
    assert find(samples, "inkling_cancelled_total") + find(samples, "inkling_expired_total") == 250
    assert find(samples, "inkling_batch_images_sum") == 0


def test_a_metrics_port_that_was_set_and_is_taken_ends_the_start(repository_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "serve", "--models", str(repository_folder), "--port", "0"]
        ended = subprocess.run(
            [*command, "--metrics-port", str(port)], capture_output=True, text=True, timeout=30, check=False
        )
    assert ended.returncode == 4
    assert f"--metrics-port: cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_a_metrics_port_that_was_not_set_and_is_taken_is_a_warning(repository_folder: Path) -> None:
    """Whatever has it: this test, or another server of this machine."""
    address = ("127.0.0.1", 9464)
    try:
        taken = socket.create_server(address)
    except OSError:
        taken = socket.socket()
    command = [sys.executable, "-m", "serve", "--models", str(repository_folder), "--port", "0", "--workers", "1"]
    with taken, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving" in line:
                process.terminate()
    assert process.returncode == 0
    assert any("WARNING" in line and "going without /metrics" in line for line in lines), lines


def test_metrics_port_0_listens_on_none(repository_folder: Path) -> None:
    with running(repository_folder, "--workers", "1", "--metrics-port", "0") as server:
        assert server.address
        with pytest.raises(ConnectionRefusedError):
            server.get("/healthz")


def test_a_caller_is_told_nothing_of_the_settings_and_the_log_of_all(repository_folder: Path) -> None:
    endpoint = f"http://user:password@127.0.0.1:{find_free_port()}"
    with running(repository_folder, "--workers", "1", "--trace-endpoint", endpoint) as server:
        (line,) = server.wait_for("settings: ")
        assert "workers=1" in line.string
        assert "//***@127.0.0.1" in line.string
        assert server.address
        assert not any("password" in line for line in server.lines)


def test_an_unreadable_call_has_a_code(server: Running) -> None:
    with Client(server.address) as client, pytest.raises(CallError):
        client.classify(b"no image", model="bands")
