"""`train.commands.ending`: a full disk, a closed stdout or a damaged checkpoint ends a training with a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.data.test_pictures import write_shapes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="wanted RLIMIT_FSIZE and /dev/full, which Windows has not"),
]
MODEL = "shapes"
# `python -m train.folder`, which may write no file of more bytes than the first argument.
LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from train.commands.folder import main
sys.exit(main())
"""
SMALL_FLAGS = ("--name", MODEL, "--size", "8", "--epochs", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("pictures") / "shapes", 10)


def command(folder: Path, out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "train.folder", str(folder), *SMALL_FLAGS, "--out", str(out), *flags]


def run(folder: Path, out: Path, *flags: str, most_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    start = command(folder, out, *flags)
    if most_bytes is not None:
        start[1:3] = ["-c", LIMITED, str(most_bytes)]
    return subprocess.run(start, capture_output=True, text=True, check=False)


def assert_sentence(returncode: int, errors: str, *texts: str) -> None:
    """The last line is a sentence with these texts, nothing in stderr is a trace, and the code is 1."""
    assert returncode == 1, errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: ")
    assert [text for text in texts if text not in last] == [], last


def leave_checkpoint(folder: Path, out: Path) -> Path:
    """Stop a training after its first epoch, by a reader of its stdout that goes."""
    returncode, errors = read_lines(command(folder, out), "epoch 2 of 2")
    checkpoint = out / MODEL / "unfinished.npz"
    assert_sentence(
        returncode,
        errors,
        "stdout cannot be written to (Broken pipe); send it to a file or to /dev/null",
        f"no model file was written; continue with --resume ({checkpoint})",
    )
    return checkpoint


def read_lines(arguments: list[str], last: str, count: int = 1) -> tuple[int, str]:
    """Read stdout until `last` was in that many lines, and close it. Exit code and stderr."""
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        while count:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            count -= last in line
        process.stdout.close()
        errors = process.stderr.read()
    return process.returncode, errors


def test_a_run_whose_stdout_closed_or_whose_disk_was_full_can_be_resumed(folder: Path, tmp_path: Path) -> None:
    checkpoint = leave_checkpoint(folder, tmp_path)
    before = checkpoint.read_bytes()
    full = run(folder, tmp_path, "--resume", most_bytes=len(before) // 2)
    assert_sentence(
        full.returncode,
        full.stderr,
        f"error: {checkpoint}: File too large; allow larger files",
        f"no model file was written; continue with --resume ({checkpoint})",
    )
    assert [each.name for each in checkpoint.parent.iterdir()] == ["unfinished.npz"]
    assert checkpoint.read_bytes() == before
    done = run(folder, tmp_path, "--resume")
    assert (done.returncode, "epoch 1 of 2" in done.stdout) == (0, False), done.stderr
    assert [each.name for each in checkpoint.parent.iterdir()] == ["1"]


def test_a_full_disk_before_the_first_checkpoint_leaves_nothing_to_resume(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path, most_bytes=5000)
    assert_sentence(done.returncode, done.stderr, str(tmp_path / MODEL / "unfinished.npz"), "no model file was written")
    assert "--resume" not in done.stderr
    assert not list((tmp_path / MODEL).iterdir())


def test_a_stdout_that_is_closed_at_the_start_ends_the_run_at_once(folder: Path, tmp_path: Path) -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command(folder, tmp_path)]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
    assert_sentence(done.returncode, done.stderr, "stdout cannot be written to (it is closed); send it to a file")
    assert not list(tmp_path.iterdir())


def test_a_stdout_on_a_full_disk_is_named(folder: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command(folder, tmp_path), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert_sentence(done.returncode, done.stderr, "stdout cannot be written to (No space left on device)")


def test_a_stdout_that_closes_before_the_figures_does_not_lose_the_model(folder: Path, tmp_path: Path) -> None:
    """Training and validation of two epochs print four lines with the time of a step."""
    returncode, errors = read_lines(command(folder, tmp_path), "/step", count=4)
    version = tmp_path / MODEL / "1"
    assert_sentence(returncode, errors, f"wrote {version}, but stdout cannot be written to")
    assert (version / "model.onnx").exists()
    assert [each.name for each in version.parent.iterdir()] == ["1"]


def test_a_training_without_stdin_and_stderr_runs_to_its_end(folder: Path, tmp_path: Path) -> None:
    shell = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command(folder, tmp_path)]
    done = subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "serve it with" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("content", ["foreign", "pipe"])
def test_resuming_from_what_is_no_checkpoint_names_it(folder: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / MODEL / "unfinished.npz"
    path.parent.mkdir()
    if content == "pipe":
        os.mkfifo(path)
    else:
        np.savez(path, weights=np.arange(3))
    done = run(folder, tmp_path, "--resume")
    assert_sentence(done.returncode, done.stderr, str(path), "remove it" if content == "pipe" else "leave out --resume")
