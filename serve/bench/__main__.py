"""`python -m serve.bench`: load on a server -> a table, and a last line of JSON.

Enters: the address of a running server, or a folder of models to start one on. Leaves: throughput, percentiles,
errors by code, the server's CPU and memory, and the fraction of the ceiling that was reached, measured in turn.
Does not know: how the server works; it asks as any client does.
"""

import argparse
import json
import math
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serve.bench.measure import Subject, find_file, make_subject, measure, measure_beside
from serve.bench.target import Target, measure_start, start_server
from serve.errors import InklingError
from serve.machine.cores import count_usable_cores

SHORT = {"seconds": 1.0, "warm_up": 0.3, "rounds": 1}
HEADS = ["model", "capacity_per_s", "images_per_s", "p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "refusals_per_s"]
HEADS += ["refusal_p99_ms", "health_p99_ms", "cpu", "pss_mib", "pss_growth_at_once", "pss_growth"]
HEADS += ["peer_per_s", "over_peer", "fraction", "stolen_cores", "given_fraction", "busy_fraction"]
HEADS += ["of_decode_and_run", "over_floor"]
START_HEADS = ["workers", "imports_s", "start_s", "over_imports_s", "pss_mib"]
BESIDE_HEADS = ["model", "batches_per_s", "p99_ms_beside_batches", "singles_per_s", "p99_ms_beside_singles", "ratio"]


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """A row per model, or per number of workers."""
    heads = next((kind for kind in (BESIDE_HEADS, START_HEADS) if set(kind) <= rows[0].keys()), HEADS)
    heads = [head for head in heads if head in rows[0] and any(_is_known(row[head]) for row in rows)]
    cells = [heads] + [[_format(row[head]) for head in heads] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    for row in rows:
        if row["errors"]:
            print(f"errors of {row['model']}: " + ", ".join(f"{code} {count}" for code, count in row["errors"].items()))


def _is_known(value: object) -> bool:
    return not (isinstance(value, float) and math.isnan(value))  # as a refusal's latency where nothing was refused


def _format(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
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
        "results": [{head: value if _is_known(value) else None for head, value in row.items()} for row in rows],
    }
    return json.dumps(facts)


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 with a table, 1 where there was nothing to measure or it was interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs in the background ignore it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # or its server would outlive it
    options = _parse(arguments)
    if options.short:
        vars(options).update(SHORT)
    try:
        rows = _measure_start(options) if options.start else _measure_load(options)
    except InklingError as error:
        print(f"serve.bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("serve.bench: interrupted", file=sys.stderr)
        return 1
    print_table(rows)
    print(describe_run(options, rows))
    return 0


def _measure_start(options: argparse.Namespace) -> list[dict[str, Any]]:
    return measure_start(options.models, options.precision, [1, max(2, options.workers)], options.rounds)


def _measure_load(options: argparse.Namespace) -> list[dict[str, Any]]:
    with _find_target(options) as target:
        subjects = [_make_subject(target, name, options) for name in options.model]
        return [measure_beside(each, options) if options.beside else measure(each, options) for each in subjects]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags; exits with code 2 on those that do not fit together."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.batch and (options.peer or options.beside):
        parser.error("--batch: the peer and the lone caller are asked for single images; leave it out")
    if options.rate and options.overload:
        parser.error("--rate, --overload: wanted one of them, got both")
    if options.beside and options.workers > 1:
        parser.error("--beside: with several workers chance decides whether the callers share one; leave out --workers")
    loads = (options.address, options.peer, options.beside, options.overload, options.rate, options.batch)
    if options.start and any(loads):
        parser.error("--start: wanted it without --address and loads: it starts servers of its own, and loads none")
    if options.peer and not shutil.which(options.peer):
        parser.error(f"--peer: wanted an interpreter that can be run, got {options.peer!r}")
    return options


def _find_target(options: argparse.Namespace) -> AbstractContextManager[Target]:
    if options.address:
        return nullcontext(Target(options.address, options.pid))
    workers = 1 if options.beside else options.workers
    flags = ["--models", str(options.models), "--workers", str(workers), "--precision", options.precision]
    return start_server(flags)


def _make_subject(target: Target, name: str, options: argparse.Namespace) -> Subject:
    if not options.beside:
        find_file(options.models, name, "float32")  # the ceiling's: rather missed now than after the load
    return make_subject(target, name, options.batch)


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
    add("--workers", type=int, default=0, help="of its own server (default: one per core; one with --beside)")
    add("--concurrency", type=int, default=64, help="calls under way at a time (default: 64)")
    add("--connections", type=int, default=16, help="connections that they share (default: 16)")
    add("--rate", type=float, default=0, help="open loop: calls a second, whoever answers (default: closed loop)")
    add("--overload", type=float, default=0, metavar="N", help="open loop at N times what a closed loop just gave")
    add("--beside", type=int, default=0, metavar="N", help="a lone caller's p99 beside batches of N and beside singles")
    add(
        "--peer",
        default="",
        metavar="PYTHON",
        help="an interpreter with nvidia-pytriton, onnxruntime and pillow: a Triton is measured in turn; Classify only",
    )
    add(
        "--start",
        action="store_true",
        help="how long a server of one worker, and one of two (or of --workers), take to start",
    )
    add("--precision", default="float32", help="of its own server's files; the ceiling's is always float32")
    add("--batch", type=int, default=0, metavar="N", help="BatchClassify of N images (default: Classify)")
    add("--seconds", type=float, default=8, help="of each round (default: 8)")
    add("--warm-up", type=float, default=2, metavar="S", help="seconds before each round (default: 2)")
    add("--rounds", type=int, default=3, help="server and ceiling in turn; medians are shown (default: 3)")
    add("--generator", choices=("grpc", "h2load"), default="grpc", help="what makes the load (default: grpc)")
    add("--short", dest="short", action="store_true", help="one second and one round: only to see that it works")
    return parser


if __name__ == "__main__":
    sys.exit(main())
