"""One server under one load, round after round, in turn with the cost of its parts.

Enters: a server, a model's name, the settings of the command. Leaves: a row of figures, the medians of the rounds.
Does not know: how the rows are shown.
"""

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.__main__ import new_event_loop
from serve.bench import ceiling
from serve.bench.load import GrpcLoad, Measurement, Plan, measure_use, percentile, run_h2load
from serve.bench.workload import make_images, make_requests
from serve.client import Client
from serve.cores import count_usable_cores
from serve.errors import CallError, ConfigError
from serve.prepare import Pixels, to_png

SERVICE = "/inkling.v1.ClassifierService/"
PARTS = ("run_us", "decode_us", "call_us", "generator_us")
PROBE_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load: where it is, and its process where it is ours to look at."""

    address: str
    pid: int | None


@contextmanager
def start_server(flags: Sequence[str]) -> Iterator[Target]:
    """`python -m serve` on a free port, until the end of the block."""
    command = [sys.executable, "-m", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own module
        try:
            lines = iter(process.stderr or ())
            address = next((found[1] for line in lines if (found := re.search(r"serving .* on (\S+)$", line))), "")
            if not address:
                raise ConfigError("the server ended before it served; start it by hand to see why")
            # Read on, or a full pipe would hold up the server.
            log = threading.Thread(target=sys.stderr.writelines, args=(lines,))
            log.start()
            yield Target(address, process.pid)
        finally:
            process.terminate()
            process.wait()
    log.join()


def load(target: str, requests: Sequence[bytes], plan: Plan, generator: str) -> Measurement:
    """Put load on an address by the generator asked for, showing progress."""
    if generator == "h2load":
        return run_h2load(target, requests[0], plan)

    async def run() -> Measurement:
        return await GrpcLoad(target, requests, plan, _show_progress).run()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run())


def _show_progress(elapsed_s: float, images: int) -> None:
    print(f"\r  {elapsed_s:4.0f} s {images / elapsed_s:10,.0f} images/s ", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model on a server, and what it is asked."""

    target: Target
    model: str
    images: list[Pixels]
    encoded: list[bytes]
    requests: list[bytes]


def make_subject(target: Target, model: str, batch: int) -> Subject:
    """Images of the model's shape, and a look at the answers before any are counted. Raises CallError."""
    with Client(target.address) as client:
        height, width, channels = client.get_model(model).input_shape
        images = make_images((height, width, channels))
        encoded = [to_png(pixels) for pixels in images]
        for outcome in client.classify_many(encoded[:8], model=model):
            if isinstance(outcome, CallError):
                raise outcome
    return Subject(target, model, images, encoded, make_requests(model, encoded, batch))


def measure(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Server and ceiling in turn, `--rounds` times; the medians of what they give."""
    plan = make_plan(options)
    rounds = [_measure_round(subject, plan, options) for _ in range(options.rounds)]
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    row: dict[str, Any] = {"model": subject.model, "images_per_call": plan.images_per_call}
    row |= {key: round(statistics.median(each[key] for each in rounds), 4) for key in rounds[0] if key != "errors"}
    row["errors"] = dict(sum((each["errors"] for each in rounds), Counter()))
    return row


def _measure_round(subject: Subject, plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    row = measure_server(subject, plan, options.generator)
    if options.models:
        row |= measure_costs(subject, replace(plan, rate=0), options.models, options.generator)
        # What refused calls cost is lost to the good ones, and is no fault of the server's.
        cores = count_usable_cores() - row["refusals_per_s"] * row["call_us"] * plan.images_per_call / 1e6
        row["ceiling_per_s"] = cores * 1e6 / sum(row[part] for part in PARTS)
        row["fraction"] = row["images_per_s"] / row["ceiling_per_s"]
    return row


def measure_server(subject: Subject, plan: Plan, generator: str) -> dict[str, Any]:
    """One round of load."""
    pid = subject.target.pid
    before, start_s = measure_use(pid) if pid else None, time.perf_counter()
    with HealthProbe(subject.target.address) as probe:
        found = load(subject.target.address, subject.requests, plan, generator)
    row: dict[str, Any] = {"images_per_s": found.images_per_s, "errors": found.errors}
    row |= {f"p{share}_ms": found.percentile_us(float(share) / 100) / 1000 for share in ("50", "90", "99", "99.9")}
    row |= {"refusals_per_s": found.errors.total() / found.elapsed_s, "health_p99_ms": probe.percentile_ms(0.99)}
    if found.error_latencies_us:
        row["refusal_p99_ms"] = percentile(found.error_latencies_us, 0.99) / 1000
    if pid and before:
        after = measure_use(pid)
        row |= {"cpu": (after.cpu_s - before.cpu_s) / (time.perf_counter() - start_s)}
        row |= {"pss_mib": after.pss_mib, "pss_growth": after.pss_mib / before.pss_mib}
    return row


def measure_costs(subject: Subject, plan: Plan, models: Path, generator: str) -> dict[str, float]:
    """The cost of the parts in core-microseconds an image."""
    files = (models / subject.model).glob("*/model.onnx")
    request = bytes(len(subject.encoded[0]) * plan.images_per_call)
    call_us, generator_us = ceiling.measure_call_us(lambda address: load(address, [request], plan, generator))
    return {
        "run_us": ceiling.measure_run_us(max(files, key=lambda path: int(path.parent.name)), subject.images),
        "decode_us": ceiling.measure_decode_us(subject.encoded),
        "call_us": call_us / plan.images_per_call,
        "generator_us": generator_us / plan.images_per_call,
    }


class HealthProbe:
    """Asks a server for its health again and again, on a connection of its own, until the end of the block."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._latencies_ms: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._probe)

    def percentile_ms(self, share: float) -> float:
        """Of the time to an answer."""
        return percentile(self._latencies_ms, share)

    def _probe(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # set in its __init__
            while not self._ended.wait(PROBE_PAUSE_S):
                start_s = time.perf_counter()
                check(health_pb2.HealthCheckRequest(), timeout=30)
                self._latencies_ms.append((time.perf_counter() - start_s) * 1000)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def make_plan(options: argparse.Namespace) -> Plan:
    """The load that the command's settings ask for."""
    return Plan(
        method=SERVICE + ("BatchClassify" if options.batch else "Classify"),
        images_per_call=options.batch or 1,
        concurrency=options.concurrency,
        connections=min(options.connections, options.concurrency),
        rate=options.rate,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
    )
