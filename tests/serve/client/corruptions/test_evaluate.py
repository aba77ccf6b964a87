"""`python -m serve.evaluate --corruptions`: accuracy by severity, a mean, and what cannot be corrupted."""

import json
import re
from pathlib import Path

import pytest

from tests.serve.client.test_evaluate import run
from tests.support import Png, RunningServer


@pytest.fixture
def large_examples(tmp_path: Path, png: Png) -> Path:
    """Images of the size that the corruptions take."""
    for name, band in (("top/1", 0), ("top/2", 0), ("middle/3", 1), ("bottom/4", 2)):
        file = tmp_path / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(png(band, (32, 32)))
    return tmp_path


def test_corrupted_images_are_measured_by_severity(
    server: RunningServer, large_examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, "--json", "--corruptions", "gaussian_noise,contrast", "--", large_examples) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["images"]) == (1, 4)
    assert found["corruptions"] == {"gaussian_noise": [1.0] * 5, "contrast": [1.0] * 5}
    assert found["mean"] == 1


def test_the_table_of_corruptions_has_a_mean_and_says_what_it_is_over(
    server: RunningServer, large_examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, "--sample", 3, "--corruptions", "fog", "--", large_examples) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"fog( +\d\.\d{4}){6}", lines[1])
    assert lines[2].endswith("(3 images)")
    assert "1 corruptions without frost, not the benchmark's mean" in lines[3]
