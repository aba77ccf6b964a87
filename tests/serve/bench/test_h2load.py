"""`python -m serve.bench` with h2load: the same table, and failed calls counted apart from successful ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from serve.bench.generators.h2load import (
    FRAME_BYTES,
    count_good,
    drop_warm_up,
    run_command,
    run_h2load,
    run_h2load_beside,
)
from serve.bench.load import Plan
from serve.bench.probe import Probe
from serve.bench.target import start_server
from serve.bench.workload import BATCH_CLASSIFY, CLASSIFY, make_images, make_requests
from serve.images.pixels import to_png
from tests.serve.bench.test_bench import needs_h2load, run


@pytest.mark.slow
@needs_h2load
def test_h2load_gives_the_same_table(repository_folder: Path) -> None:
    assert "bands" in run(repository_folder, "--generator", "h2load")[0]


@pytest.mark.slow
@needs_h2load
def test_h2load_in_an_open_loop_counts_failed_calls_apart(repository_folder: Path) -> None:
    """h2load sees no statuses. Every call for an unknown model fails, and none may count as successful."""
    (row,) = run(repository_folder, "--generator", "h2load", "--rate", "200")[1]["results"]  # type: ignore[misc]
    assert sum(row["errors"].values()) < 20  # of two hundred: a busy machine rejects or breaks off some
    plan = Plan(CLASSIFY, 1, 4, 2, 100, 0.5, 0.1)
    request = make_requests("no such model", [b""], 0)[0]
    with start_server(["--models", str(repository_folder), "--workers", "1"]) as target:
        found = run_h2load_beside(Probe(target.server, plan.method, request), target.server, request, plan)
    assert found.good_calls == 0
    assert set(found.errors) == {"NOT_FOUND"}
    assert found.errors["NOT_FOUND"] > 10
    assert found.error_latencies_us


@needs_h2load
def test_h2load_in_a_closed_loop_counts_failed_calls_apart(repository_folder: Path) -> None:
    """The server admits one image at a time, so eight requests of two images in flight are rejected."""
    plan = Plan(BATCH_CLASSIFY, 2, 8, 4, 0, 0.5, 0.1)
    images = [to_png(pixels) for pixels in make_images((12, 12, 3))]
    request = make_requests("bands", images, 2)[0]
    with start_server(["--models", str(repository_folder), "--workers", "1", "--max-pending", "1"]) as target:
        # First, because the server still has calls of a load that has just ended.
        alone = run_h2load(target.server, request, replace(plan, concurrency=1, connections=1))
        found = run_h2load(target.server, request, plan)
    assert found.good_calls > 0
    assert found.errors["UNKNOWN"] > 10
    assert not found.latencies_us
    assert not alone.errors
    assert len(alone.latencies_us) == alone.good_calls > 0


@needs_h2load
def test_a_failed_call_has_no_message(repository_folder: Path) -> None:
    """Failed calls with more bytes would count as successful ones."""
    plan = Plan(CLASSIFY, 1, 4, 2, 0, 0.3, 0)
    with start_server(["--models", str(repository_folder), "--workers", "1"]) as target:
        _, bytes_per_call = run_command(target.server, make_requests("no such model", [b""], 0)[0], plan)
    assert bytes_per_call == 0


def test_successful_calls_are_counted_by_the_bytes_of_the_replies() -> None:
    assert count_good(1000, 99, []) == 0
    assert count_good(1000, FRAME_BYTES, [0]) == 1000
    replies = [90 - FRAME_BYTES, 110 - FRAME_BYTES]
    counted = {0: 0, 90: 900, 98: 980, 99.5: 1000, 101: 1000}
    assert {each: count_good(1000, each, replies) for each in counted} == counted


def test_calls_that_ended_in_the_warm_up_are_dropped() -> None:
    rows = [(1_000_000, 200, 100_000), (1_050_000, 200, 449_000), (1_050_000, 200, 450_000), (2_000_000, 200, 1)]
    assert drop_warm_up(rows, 0.5) == rows[2:]
    assert drop_warm_up(rows, 0) == rows
    assert drop_warm_up([], 0.5) == []
