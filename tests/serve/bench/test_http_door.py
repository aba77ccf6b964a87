"""`python -m serve.bench.peers.http_door`: a short run with the tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra [web]")


@pytest.mark.slow
def test_a_short_run_prints_both_loads_and_their_ratio(repository_folder: Path) -> None:
    command = [sys.executable, "-m", "serve.bench.peers.http_door", "--models", str(repository_folder)]
    command += ["--model", "bands", "--seconds", "0.5", "--rounds", "2", "--concurrency", "2", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    *rounds, last = done.stdout.splitlines()
    assert len(rounds) == 2
    assert all("gRPC" in line and "HTTP" in line and "errors" not in line for line in rounds)
    facts = json.loads(last)
    assert facts["http_images_per_s"] > 0
    assert facts["grpc_images_per_s"] > 0
    assert 0 < facts["http_over_grpc"] < 10
