"""`python -m serve.bench`: load on a server -> a table, and a last line of JSON.

Enters: the address of a running server, or a folder of models to start one on. Leaves: throughput, percentiles,
errors by code, the server's CPU and memory, and the fraction of the ceiling that was reached, measured in turn.
Does not know: how the server works; it asks as any client does.
"""

import argparse
import asyncio
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serve.__main__ import new_event_loop
from serve.bench import ceiling
from serve.bench.load import GrpcLoad, Measurement, Plan, measure_use, run_h2load
from serve.bench.workload import make_images, make_requests
from serve.client import Client
from serve.cores import count_usable_cores
from serve.errors import CallError, ConfigError, InklingError
from serve.prepare import Pixels, to_png

SERVICE = "/inkling.v1.ClassifierService/"
SHORT = {"seconds": 1.0, "warm_up": 0.3, "rounds": 1}


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


def check_answers(client: Client, model: str, encoded: Sequence[bytes]) -> None:
    """Make sure that good calls are good answers before any are counted. Raises InklingError."""
    for outcome in client.classify_many(encoded[:8], model=model):
        if isinstance(outcome, InklingError):
            raise outcome


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
    plan = _plan(options)
    rounds = [
        measure_server(subject, plan, options) | (measure_ceiling(subject, plan, options) if options.models else {})
        for _ in range(options.rounds)
    ]
    for each in rounds:
        if "ceiling_per_s" in each:
            each["fraction"] = each["images_per_s"] / each["ceiling_per_s"]
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    row: dict[str, Any] = {"model": subject.model, "images_per_call": plan.images_per_call}
    row |= {key: round(statistics.median(each[key] for each in rounds), 4) for key in rounds[0] if key != "errors"}
    row["errors"] = dict(sum((each["errors"] for each in rounds), Counter()))
    return row


def measure_server(subject: Subject, plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """One round of load."""
    pid = subject.target.pid
    before, start_s = measure_use(pid) if pid else None, time.perf_counter()
    found = load(subject.target.address, subject.requests, plan, options.generator)
    row: dict[str, Any] = {"images_per_s": found.images_per_s, "errors": found.errors}
    row |= {f"p{share}_ms": found.percentile_us(float(share) / 100) / 1000 for share in ("50", "90", "99", "99.9")}
    if pid and before:
        after = measure_use(pid)
        row |= {"cpu": (after.cpu_s - before.cpu_s) / (time.perf_counter() - start_s), "pss_mib": after.pss_mib}
    return row


def measure_ceiling(subject: Subject, plan: Plan, options: argparse.Namespace) -> dict[str, float]:
    """The cost of the parts in core-microseconds an image, and the images a second that the cores could do at best."""
    files = (options.models / subject.model).glob("*/model.onnx")
    request = bytes(len(subject.encoded[0]) * plan.images_per_call)
    call_us, generator_us = ceiling.measure_call_us(lambda address: load(address, [request], plan, options.generator))
    costs = {
        "run_us": ceiling.measure_run_us(max(files, key=lambda path: int(path.parent.name)), subject.images),
        "decode_us": ceiling.measure_decode_us(subject.encoded),
        "call_us": call_us / plan.images_per_call,
        "generator_us": generator_us / plan.images_per_call,
    }
    return costs | {"ceiling_per_s": count_usable_cores() * 1e6 / sum(costs.values())}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """A row per model."""
    heads = ["model", "images_per_s", "p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "cpu", "pss_mib", "fraction"]
    heads = [head for head in heads if head in rows[0]]
    cells = [heads] + [[_format(row[head]) for head in heads] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    for row in rows:
        if row["errors"]:
            print(f"errors of {row['model']}: " + ", ".join(f"{code} {count}" for code, count in row["errors"].items()))


def _format(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def describe_run(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> str:
    """One line of JSON: what was measured, when, of which commit, on what."""
    cpu = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "settings": {key: str(value) for key, value in vars(options).items()},
        "versions": {name: version(name) for name in ("grpcio", "numpy", "onnxruntime", "pillow", "protobuf")},
        "python": platform.python_version(),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": count_usable_cores(),
        "results": rows,
    }
    return json.dumps(facts)


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 with a table, 1 where there was nothing to measure."""
    options = _parser().parse_args(arguments)
    if options.short:
        vars(options).update(SHORT)
    try:
        if options.address:
            rows = [
                measure(make_subject(Target(options.address, options.pid), name, options.batch), options)
                for name in options.model
            ]
        else:
            with start_server(["--models", str(options.models), "--workers", str(options.workers)]) as target:
                rows = [measure(make_subject(target, name, options.batch), options) for name in options.model]
    except InklingError as error:
        print(f"serve.bench: {error}", file=sys.stderr)
        return 1
    print_table(rows)
    print(describe_run(options, rows))
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        method=SERVICE + ("BatchClassify" if options.batch else "Classify"),
        images_per_call=options.batch or 1,
        concurrency=options.concurrency,
        connections=min(options.connections, options.concurrency),
        rate=options.rate,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve.bench", description="Measure a server: one of its own, or the one at --address."
    )
    add = parser.add_argument
    add("--model", nargs="+", default=["mnist-cnn", "cifar10-cnn"], help="which models (default: %(default)s)")
    add(
        "--models", type=Path, default=Path("models"), metavar="DIR", help="model files, for the server and the ceiling"
    )
    add("--address", default="", help="a running server's host:port, instead of one of its own")
    add("--pid", type=int, help="that server's process, to measure its CPU and memory")
    add("--workers", type=int, default=0, help="of its own server (default: one per core)")
    add("--concurrency", type=int, default=64, help="calls under way at a time (default: 64)")
    add("--connections", type=int, default=16, help="connections that they share (default: 16)")
    add("--rate", type=float, default=0, help="open loop: calls a second, whoever answers (default: closed loop)")
    add("--batch", type=int, default=0, metavar="N", help="BatchClassify of N images (default: Classify)")
    add("--seconds", type=float, default=8, help="of each round (default: 8)")
    add("--warm-up", type=float, default=2, metavar="S", help="seconds before each round (default: 2)")
    add("--rounds", type=int, default=3, help="server and ceiling in turn; medians are shown (default: 3)")
    add("--generator", choices=("grpc", "h2load"), default="grpc", help="what makes the load (default: grpc)")
    add("--short", dest="short", action="store_true", help="one second and one round: only to see that it works")
    return parser


if __name__ == "__main__":
    sys.exit(main())
