"""`python -m serve.score.speed`: a short run, and the figures in its last line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve.score.speed import Memory
from tests.support import ROOT


@pytest.mark.slow
def test_a_short_run_prints_a_line_for_each_round_and_its_figures(model_file: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "serve.score.speed",
        "--model",
        str(model_file),
        "--count",
        "1500",
        "--rounds",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    *rounds, last = done.stdout.splitlines()
    figures = json.loads(last)
    assert [line.partition(":")[0] for line in rounds] == ["round 1", "round 2"]
    assert figures["images"] == 1500
    assert 0 < figures["fraction"] <= figures["fraction_behind_start"]
    assert 0 < figures["images_s"] < figures["ceiling_images_s"] * 2


def test_growth_compares_the_end_with_the_time_behind_the_start() -> None:
    assert Memory([10, *[100.0] * 18, 100]).growth == pytest.approx(1)
    assert Memory([10, *map(float, range(100, 119)), 200]).growth > 1.5
