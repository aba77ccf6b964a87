"""`python -m serve.bench`: the short mode against a server of its own, with the tiny model."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunningServer

from serve.bench.load import GrpcLoad, Plan
from serve.bench.workload import make_images, make_requests


def run(repository_folder: Path, *flags: str) -> tuple[str, dict[str, object]]:
    command = [sys.executable, "-m", "serve.bench", "--short", "--models", str(repository_folder), "--model", "bands"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True, timeout=60)
    *table, last = done.stdout.splitlines()
    return "\n".join(table), json.loads(last)


@pytest.mark.parametrize("flags", [(), ("--batch", "8"), ("--rate", "50")])
def test_a_short_run_gives_a_table_and_a_line_of_json(repository_folder: Path, flags: tuple[str, ...]) -> None:
    table, facts = run(repository_folder, *flags)
    assert table.splitlines()[0].split()[:3] == ["model", "images_per_s", "p50_ms"]
    (result,) = facts["results"]  # type: ignore[misc]
    assert result["images_per_s"] > 0
    assert result["errors"] == {}
    assert result["p50_ms"] <= result["p99_ms"] <= result["p99.9_ms"]
    assert 0 < result["fraction"] == pytest.approx(result["images_per_s"] / result["ceiling_per_s"], abs=1e-3)
    assert result["pss_mib"] > 10
    assert {"date", "commit", "versions", "cpu", "cores"} <= facts.keys()


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed (Debian: nghttp2-client)")
def test_h2load_gives_the_same_table(repository_folder: Path) -> None:
    assert "bands" in run(repository_folder, "--generator", "h2load")[0]


def test_errors_are_counted_by_code(server: RunningServer) -> None:
    plan = Plan("/inkling.v1.ClassifierService/Classify", 1, 4, 2, 0, 0.3, 0)
    requests = make_requests("bands", [b"no image"], 0)

    async def load() -> dict[str, int]:
        return (await GrpcLoad(server.address, requests, plan, lambda _s, _images: None).run()).errors

    assert set(asyncio.run(load())) == {"INVALID_ARGUMENT"}


def test_images_and_requests_differ_from_call_to_call() -> None:
    images = make_images((28, 28, 1))
    assert len({image.tobytes() for image in images}) == len(images)
    requests = make_requests("m", [image.tobytes() for image in images], 4)
    assert len(set(requests)) == len(requests)
