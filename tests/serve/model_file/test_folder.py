"""serve.model_file.folder: model files are found by name and version; the highest version is the newest."""

from pathlib import Path

import pytest

from serve.errors import InklingError
from serve.model_file.folder import find_newest, next_version, read_version

FILES = [("bands", 2), ("bands", 9), ("bands", 10), ("grey-bands", 1)]
NOT_VERSIONS = ["0", "00", "01", "-1", "+1", "1.0", "latest", "v3", "1e3", "1_0", " 4", "", "\u0664", "\u00b2"]


def put(path: Path) -> Path:
    """An empty file: nothing here reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of models with FILES."""
    for name, version in FILES:
        put(tmp_path / name / str(version) / "model.onnx")
    return tmp_path


@pytest.mark.parametrize(("name", "version"), [("1", 1), ("10", 10), ("20261130", 20261130), ("9" * 30, 10**30 - 1)])
def test_a_version_is_a_positive_number_in_ascii_digits(name: str, version: int) -> None:
    assert read_version(name) == version


@pytest.mark.parametrize("name", NOT_VERSIONS)
def test_zero_leading_zeros_and_other_digits_are_not_versions(name: str) -> None:
    assert read_version(name) is None


def test_the_newest_file_is_the_highest_version_of_the_first_folder(folder: Path) -> None:
    for version in ("011", "0", "\u0669\u0669"):
        put(folder / "bands" / version / "model.onnx")
    put(folder / "later/bands/11/model.onnx")
    put(folder / "empty/bands/12/model.int8.onnx")
    folders = [folder / "missing", folder / "empty", folder, folder / "later"]
    assert find_newest("bands", folders) == folder / "bands/10/model.onnx"
    with pytest.raises(InklingError, match=r"no file of hoops: wanted .*missing/hoops/<version>/model\.onnx or "):
        find_newest("hoops", folders)


def test_the_next_version_is_the_highest_plus_one_or_1(folder: Path) -> None:
    for name in ("011", "0", "\u0669\u0669", "notes"):
        (folder / "bands" / name).mkdir()
    (folder / "hoops").mkdir()
    assert next_version(folder / "bands") == 11
    assert next_version(folder / "hoops") == 1
