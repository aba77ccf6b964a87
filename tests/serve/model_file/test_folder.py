"""serve.model_file.folder: model files are found by name and version; the highest version is the newest."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from serve.errors import ConfigError, InklingError
from serve.model_file.folder import (
    ModelFile,
    find_model_files,
    find_newest,
    find_unreadable,
    next_version,
    read_version,
)

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


def test_files_are_sorted_by_name_and_by_version_as_a_number(folder: Path) -> None:
    assert [(file.name, file.version) for file in find_model_files(folder, "float32")] == FILES
    assert {file.path.relative_to(folder).as_posix() for file in find_model_files(folder, "float32")} == {
        f"{name}/{version}/model.onnx" for name, version in FILES
    }


@pytest.mark.parametrize("version", [name for name in NOT_VERSIONS if name])
def test_a_folder_that_is_not_a_version_is_ignored(folder: Path, version: str) -> None:
    put(folder / "bands" / version / "model.onnx")
    assert [file.version for file in find_model_files(folder, "float32") if file.name == "bands"] == [2, 9, 10]


@pytest.mark.parametrize(
    "place", ["model.onnx", "bands/model.onnx", "bands/11/model.float16.onnx", "bands/11/a/b.onnx"]
)
def test_a_file_in_another_place_is_ignored(folder: Path, place: str) -> None:
    put(folder / place)
    assert len(find_model_files(folder, "float32")) == 4


def test_the_variant_of_the_precision_is_taken_if_it_exists(folder: Path) -> None:
    put(folder / "bands/9/model.int8.onnx")
    chosen = {(file.name, file.version): file.path.name for file in find_model_files(folder, "int8")}
    assert chosen == dict.fromkeys(FILES, "model.onnx") | {("bands", 9): "model.int8.onnx"}
    for precision in ("float32", "float16"):
        assert {file.path.name for file in find_model_files(folder, precision)} == {"model.onnx"}


def test_a_folder_without_model_files_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--models: wanted <name>/<version>/model\.onnx under .*, found none"):
        find_model_files(tmp_path, "float32")


@pytest.mark.parametrize("name", ["missing", "n" * 300])
def test_a_folder_that_does_not_exist_is_a_wrong_setting(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--models: .* is not a folder"):
        find_model_files(tmp_path / name, "float32")


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


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom permissions bind, which root is not."""
    user = os.geteuid()
    if not user:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_links_that_lead_nowhere_are_told(folder: Path) -> None:
    (folder / "link").symlink_to("/nowhere")
    (folder / "bands/3").symlink_to("/nowhere")
    (folder / "bands/4").mkdir()
    (folder / "bands/4/model.onnx").symlink_to("/nowhere")
    told = {str(each.path.relative_to(folder)): each.reason for each in find_unreadable(folder)}
    nothing = "No such file or directory"
    assert told == {"link": nothing, "bands/3": nothing, "bands/4/model.onnx": "the link leads nowhere"}


def test_folders_that_must_not_be_read_are_told() -> None:
    """In a place that every user may read, down from the root."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for closed in ("closed", "bands/7"):
            put(folder / closed / "1/model.onnx").parent.parent.chmod(0o755)
            (folder / closed).chmod(0)
        with unprivileged():
            told = [str(each.path.relative_to(folder)) for each in find_unreadable(folder)]
            files = find_model_files_or_none(folder)
        for closed in ("closed", "bands/7"):
            (folder / closed).chmod(0o755)
    assert told == ["bands/7", "closed"]
    assert not files


def find_model_files_or_none(folder: Path) -> list[ModelFile]:
    try:
        return find_model_files(folder, "float32")
    except ConfigError:
        return []


def test_what_is_no_model_folder_is_not_told(folder: Path) -> None:
    put(folder / "README.md")
    put(folder / "bands/README.md")
    (folder / "bands/notes").symlink_to("/nowhere")
    (folder / "bands/2/card.md").symlink_to("/nowhere")
    assert find_unreadable(folder) == []
