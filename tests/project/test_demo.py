"""`make demo`, as it stands in the README, in the environment that runs the tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

IN_VENV = Path(sys.prefix) == ROOT / ".venv"


@pytest.mark.slow
@pytest.mark.skipif(not IN_VENV, reason="the tests do not run in the .venv that make made, and would make another")
def test_the_demo_classifies_every_sample_and_ends_with_exit_code_0() -> None:
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(samples/\S+) +(\S+) +[█▏▎▍▌▋▊▉ ]+ +[\d.]+%", done.stdout, re.MULTILINE)
    shipped = [file for file in (ROOT / "samples").glob("*/*") if file.is_file()]
    assert {file for file, _ in rows} == {str(file.relative_to(ROOT)) for file in shipped}
    digits = [(file, label) for file, label in rows if file.startswith("samples/digits")]
    right = sum(Path(file).name[0] == label for file, label in digits)
    assert right >= 0.8 * len(digits)
