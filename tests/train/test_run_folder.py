"""`train.run_folder`: one process at a time writes to a folder, and a version appears as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.run_folder import FolderTaken, claim, name_errors, partial_folder, publish

HOLD = """
import pathlib, sys
from train.run_folder import claim
with claim(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="wanted flock, which Windows has not")
def test_a_folder_is_locked_until_its_process_ends(tmp_path: Path) -> None:
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


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="runs"), claim(tmp_path / "runs" / "mnist"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="wanted flock, which Windows has not")
def test_a_file_system_without_locks_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with claim(tmp_path):
        pass


def test_the_rest_of_a_killed_process_with_the_same_number_is_removed(tmp_path: Path) -> None:
    """In a container, every training may be process 1."""
    stale = tmp_path / f".{os.getpid()}.partial"
    stale.mkdir()
    (stale / "model.onnx").touch()
    with partial_folder(tmp_path) as partial:
        assert list(partial.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_the_highest_one_plus_1(tmp_path: Path) -> None:
    for name in ("1", "9", "10", "notes", ".4"):
        (tmp_path / name).mkdir()
    (tmp_path / ".5.partial").mkdir()
    assert publish(tmp_path / ".5.partial") == tmp_path / "11"


def fill_disk(folder: Path) -> None:
    with partial_folder(folder) as partial, Path("/dev/full").open("w") as file:
        (partial / "model.onnx").touch()
        file.write("too much")
        file.flush()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wanted /dev/full, which Linux has")
def test_a_full_disk_is_named_by_the_folder_and_leaves_no_part_of_a_version(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        fill_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_names_a_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), name_errors(tmp_path):
        (tmp_path / "absent").read_bytes()
