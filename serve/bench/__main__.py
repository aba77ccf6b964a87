"""`python -m serve.bench`: load on a server -> a table, and a last line of JSON.

Enters: the address of a running server, or a folder of models to start one on. Leaves: throughput, percentiles,
errors by code, the server's CPU time and memory, and the fraction of the ceiling, measured in turn with the server.
Does not know: how the server works; it calls it as any client does.
"""

import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from serve.bench.costs.compare import measure_costs_of_features
from serve.bench.measure import find_file, measure_beside_round, measure_round
from serve.bench.options import Options, read_options
from serve.bench.report import describe_run, flatten, print_table, summarize
from serve.bench.target import Target, measure_start, start_server
from serve.bench.workload import Subject, make_subject
from serve.errors import InklingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table and a line of JSON. Exit code 0, or 1 for an error or an interruption."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes background processes ignore it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # so that the server is stopped, too
    options = read_options(arguments)
    try:
        rows = _measure(options)
    except InklingError as error:
        print(f"serve.bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("serve.bench: interrupted", file=sys.stderr)
        return 1
    print_table(rows)
    print(describe_run(asdict(options), rows))
    return 0


def _measure(options: Options) -> list[dict[str, Any]]:
    if options.costs:
        return measure_costs_of_features(options)
    return _measure_start(options) if options.start else _measure_load(options)


def _measure_start(options: Options) -> list[dict[str, Any]]:
    workers = [1, max(2, options.workers)]
    return [flatten(row) for row in measure_start(options.models, options.precision, workers, options.rounds)]


def _measure_load(options: Options) -> list[dict[str, Any]]:
    measure = measure_beside_round if options.beside else measure_round
    with _find_target(options) as target:
        subjects = [_make_subject(target, name, options) for name in options.model]
        rows = [summarize([measure(each, options) for _ in range(options.rounds)]) for each in subjects]
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)  # clear the line of progress
    return rows


def _find_target(options: Options) -> AbstractContextManager[Target]:
    if options.address:
        return nullcontext(Target(options.read_endpoint(), options.pid or None))
    workers = 1 if options.beside else options.workers
    flags = ["--models", str(options.models), "--workers", str(workers), "--precision", options.precision]
    return start_server(flags)


def _make_subject(target: Target, name: str, options: Options) -> Subject:
    if not options.beside:
        find_file(options.models, name, "float32")  # the ceiling's file: better missed now than after the load
    return make_subject(target, name, options.batch, options.images)


if __name__ == "__main__":
    sys.exit(main())
