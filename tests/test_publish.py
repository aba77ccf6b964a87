"""`train.publish`: the version that a finished folder gets."""

from pathlib import Path

from train.publish import publish


def test_a_version_is_the_highest_plus_one_and_other_names_do_not_count(tmp_path: Path) -> None:
    for name in ("1", "9", "10", "notes", ".4"):
        (tmp_path / name).mkdir()
    (tmp_path / ".5.partial").mkdir()
    assert publish(tmp_path / ".5.partial") == tmp_path / "11"
