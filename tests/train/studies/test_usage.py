"""`python -m train.study` without training: bad usage, and the list of studies."""

import subprocess
import sys

import pytest

from train.studies.catalogue import STUDIES


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("", "wanted the NAME of a study; --list prints them"),
        ("height", "invalid choice: 'height'"),
        ("width --values 0.5,wide", "wanted a factor above 0, at most 16; got 'wide'"),
        ("width --seeds 1,-2", "wanted a whole number from 0 to 4294967295; got '-2'"),
        ("width --epochs 0", "wanted a whole number from 1; got '0'"),
        ("width --train-count few", "wanted a whole number from 1; got 'few'"),
        ("epochs --epochs 3", "the study `epochs` takes its epochs from --values"),
        ("metric --epochs 1", "wanted at least 2 epochs, one of them for pretraining; got 1"),
    ],
)
def test_bad_usage_ends_with_2_without_tensorflow(flags: str, reason: str) -> None:
    done = ask(*flags.split())
    assert (done.returncode, done.stdout.strip()) == (2, "False")
    assert reason in done.stderr


def test_the_list_of_studies_needs_no_tensorflow() -> None:
    done = ask("--list")
    *lines, has_tensorflow = done.stdout.splitlines()
    assert (done.returncode, has_tensorflow) == (0, "False")
    assert [line.split(maxsplit=1) for line in lines] == [[study.name, study.question] for study in STUDIES.values()]


def ask(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the command, and print whether TensorFlow or Keras was imported."""
    program = (
        "import atexit, sys; from train import study; "
        "atexit.register(lambda: print(bool({'tensorflow', 'keras'} & sys.modules.keys()))); sys.exit(study.main())"
    )
    return subprocess.run([sys.executable, "-c", program, *flags], capture_output=True, text=True, check=False)
