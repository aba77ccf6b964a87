"""train.run_folder: one process at a time writes to a folder, and is told so before it has trained for hours."""

import subprocess
import sys
from pathlib import Path

import pytest

from train.run_folder import FolderTaken, claim

HOLD = """
import pathlib, sys
from train.run_folder import claim
with claim(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="wanted flock, which Windows has not")
def test_a_folder_is_taken_while_another_process_works_there_and_free_when_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mnist"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        sentence = "mnist: wanted it for this run only, but another process trains there"
        with pytest.raises(FolderTaken, match=sentence), claim(folder):
            pass
        with claim(tmp_path / "runs" / "cifar10"):
            pass
        other.kill()
    with claim(folder):
        assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_an_error_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="runs"), claim(tmp_path / "runs" / "mnist"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="wanted flock, which Windows has not")
def test_a_file_system_without_locks_is_worked_in_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with claim(tmp_path):
        pass
