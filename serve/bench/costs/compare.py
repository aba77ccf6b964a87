"""Pairs of setups under the same load, in turn -> the ratio of their speeds.

Enters: the options of the command. Leaves: a row for each model and pair. Does not know: what the setups are.
"""

import contextlib
import statistics
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
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
SLOT_S = 1.0
"""Seconds of load until it is the other server's turn. A shared machine gets slower and faster within some seconds."""
SETTLE_S = 0.3
"""Seconds at the beginning of a slot that are not counted."""


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
    """Load both servers in turn, a slot each, until each had its seconds. The one without load does nothing."""
    with _serve(pair.without, model, options) as without, _serve(pair.with_it, model, options) as with_it:
        for run in (without, with_it):
            run(options.warm_up)
        slots = [(without(SLOT_S), with_it(SLOT_S)) for _ in range(max(1, round(options.seconds / SLOT_S)))]
    speeds = [statistics.mean(each.images_per_s for each in turns) for turns in zip(*slots, strict=True)]
    errors = sum((each.errors for turns in slots for each in turns), Counter[str]())
    row = CostRow(model, pair.name, speeds[0], speeds[1], speeds[1] / speeds[0], errors)
    print(f"\r{model}, {pair.name}: {row.ratio:.3f} of {row.without_per_s:,.0f} images/s", file=sys.stderr)
    return row


@contextmanager
def _serve(setup: Setup, model: str, options: Options) -> Iterator[Callable[[float], Measurement]]:
    """Start a server, give what loads it for some seconds, and stop it."""
    flags = ["--models", str(options.models.resolve()), "--workers", str(options.workers)]
    flags += ["--precision", options.precision, *setup.flags]
    with start_server(flags, setup.code) as target, _scrape(setup.metrics_port):
        endpoint = setup.to_endpoint(str(target.server))
        requests = setup.make_requests(make_subject(Target(endpoint, target.pid), model, 0, options.images))
        fetch_replies(endpoint, setup.method, requests[0], 1)
        plan = replace(options.make_plan(), method=setup.method, warm_up_s=SETTLE_S)
        yield lambda seconds: load(endpoint, requests, replace(plan, seconds=seconds), options.generator)


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
