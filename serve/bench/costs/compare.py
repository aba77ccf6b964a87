"""Pairs of setups under the same load, in turn -> the ratio of their speeds.

Enters: the options of the command. Leaves: a row for each model and pair. Does not know: what the setups are.
"""

import contextlib
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from serve.bench.costs.setups import Pair, Setup, make_pairs
from serve.bench.load import Measurement, fetch_replies
from serve.bench.measure import load
from serve.bench.options import Options
from serve.bench.report import CostRow, summarize
from serve.bench.target import Target, start_server
from serve.bench.workload import make_subject

SCRAPE_S = 1.0


def measure_costs_of_features(options: Options) -> list[dict[str, Any]]:
    """A row of medians for each model and pair. In each round, every pair has its turn. Raises ConfigError."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_pairs(Path(folder), Path(options.before) if options.before else None)
        rows: dict[tuple[str, str], list[CostRow]] = {}
        for _ in range(options.rounds):
            for model in options.model:
                for pair in pairs:
                    rows.setdefault((model, pair.name), []).append(_measure_pair(pair, model, options))
    return [summarize(rounds) for rounds in rows.values()]


def _measure_pair(pair: Pair, model: str, options: Options) -> CostRow:
    without, with_it = (_measure(setup, model, options) for setup in (pair.without, pair.with_it))
    row = CostRow(
        model,
        pair.name,
        without.images_per_s,
        with_it.images_per_s,
        with_it.images_per_s / without.images_per_s,
        without.errors + with_it.errors,
    )
    print(f"\r{model}, {pair.name}: {row.ratio:.3f} of {row.without_per_s:,.0f} images/s", file=sys.stderr)
    return row


def _measure(setup: Setup, model: str, options: Options) -> Measurement:
    """Start a server, load it, and stop it."""
    flags = ["--models", str(options.models.resolve()), "--workers", str(options.workers)]
    flags += ["--precision", options.precision, *setup.flags]
    with start_server(flags, setup.code) as target, _scrape(setup.metrics_port):
        endpoint = setup.to_endpoint(str(target.server))
        requests = setup.make_requests(make_subject(Target(endpoint, target.pid), model, batch=0))
        fetch_replies(endpoint, setup.method, requests[0], 1)
        return load(endpoint, requests, replace(options.make_plan(), method=setup.method), options.generator)


@contextmanager
def _scrape(port: int) -> Iterator[None]:
    """Ask for the metrics every SCRAPE_S until the end of the block; port 0 is never asked."""
    done = threading.Event()

    def run() -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not done.wait(SCRAPE_S):
            with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
                reply.read()

    thread = threading.Thread(target=run)
    if port:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if port:
            thread.join()
