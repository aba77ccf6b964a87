"""`train.commands.publish`: the version that a finished folder gets."""

import os
from pathlib import Path

from train.run_folder import partial_folder, publish


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container every training may be process 1."""
    stale = tmp_path / f".{os.getpid()}.partial"
    stale.mkdir()
    (stale / "model.onnx").touch()
    with partial_folder(tmp_path) as partial:
        assert list(partial.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_the_highest_plus_one_and_other_names_do_not_count(tmp_path: Path) -> None:
    for name in ("1", "9", "10", "notes", ".4"):
        (tmp_path / name).mkdir()
    (tmp_path / ".5.partial").mkdir()
    assert publish(tmp_path / ".5.partial") == tmp_path / "11"
