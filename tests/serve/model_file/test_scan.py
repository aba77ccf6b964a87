"""serve.model_file.scan: what lies in its place is found, and what lies elsewhere is named."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.errors import ConfigError
from serve.model_file.scan import WHOLE, Scan, find_model_files, scan

FILES = [("bands", 2), ("bands", 9), ("bands", 10), ("grey-bands", 1)]
NOT_VERSIONS = ["0", "00", "01", "-1", "+1", "1.0", "latest", "v3", "1e3", "1_0", " 4", "\u0664", "\u00b2"]
NOBODY = 65534


@contextmanager
def denied(folder: Path) -> Iterator[None]:
    """As a user to whom a folder below a public one denies access: nothing denies it to the superuser."""
    is_root = os.geteuid() == 0
    mode = folder.stat().st_mode
    folder.chmod(0)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(mode)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """An empty folder to which every user has access; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


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


def list_files(found: Scan) -> list[tuple[str, int, str]]:
    """Names, versions and file names, in the order of a scan."""
    return [(file.name, file.version, file.path.name) for files in found.models.values() for file in files]


def test_files_are_sorted_by_name_and_by_version_as_a_number(folder: Path) -> None:
    assert [(file.name, file.version) for file in find_model_files(folder, "float32")] == FILES
    assert {file.path.relative_to(folder).as_posix() for file in find_model_files(folder, "float32")} == {
        f"{name}/{version}/model.onnx" for name, version in FILES
    }


def test_the_variant_of_the_precision_is_taken_if_it_exists(folder: Path) -> None:
    put(folder / "bands/9/model.int8.onnx")
    chosen = {(file.name, file.version): file.path.name for file in find_model_files(folder, "int8")}
    assert chosen == dict.fromkeys(FILES, "model.onnx") | {("bands", 9): "model.int8.onnx"}
    for precision in ("float32", "float16"):
        assert {file.path.name for file in find_model_files(folder, precision)} == {"model.onnx"}


def test_a_scan_has_the_newest_version_first_and_the_variant_before_the_plain_file(folder: Path) -> None:
    put(folder / "bands/9/model.int8.onnx")
    assert list_files(scan(folder, "int8")) == [
        ("bands", 10, "model.onnx"),
        ("bands", 9, "model.int8.onnx"),
        ("bands", 9, "model.onnx"),
        ("bands", 2, "model.onnx"),
        ("grey-bands", 1, "model.onnx"),
    ]


def test_a_folder_without_model_files_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--models: wanted <name>/<version>/model\.onnx under .*, found none"):
        find_model_files(tmp_path, "float32")


@pytest.mark.parametrize("name", ["missing", "n" * 300, "file"])
def test_what_is_no_folder_is_a_wrong_setting(name: str, tmp_path: Path) -> None:
    put(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"--models: .* is not a folder"):
        find_model_files(tmp_path / name, "float32")


@pytest.mark.parametrize("version", NOT_VERSIONS)
def test_a_file_in_a_folder_that_is_not_a_version_is_named(folder: Path, version: str) -> None:
    path = put(folder / "bands" / version / "model.onnx")
    found = scan(folder, "float32")
    assert found.problems == (f"{path} is not served: wanted it at <name>/<version>/model.onnx",)
    assert len(list_files(found)) == len(FILES)


@pytest.mark.parametrize(
    "place",
    [
        *("model.onnx", "bands/model.onnx", "bands/11/model.float16.onnx", "bands/11/net.onnx", "bands/11/a/b.onnx"),
        "group/hoops/1/model.onnx",
    ],
)
def test_a_file_in_another_wrong_place_is_named(folder: Path, place: str) -> None:
    path = put(folder / place)
    found = scan(folder, "float16")
    assert found.problems == (f"{path} is not served: wanted it at <name>/<version>/model.onnx",)
    assert len(list_files(found)) == len(FILES)


@pytest.mark.parametrize("place", ["README.md", "bands/README.md", "bands/9/net.onnx", "bands/9/old/model.onnx"])
def test_other_files_and_what_lies_beside_a_model_file_are_no_mistake(folder: Path, place: str) -> None:
    put(folder / place)
    assert scan(folder, "float32").problems == ()


@pytest.mark.parametrize("place", ["hoops", "bands/11", "bands/11/model.onnx"])
def test_a_link_that_leads_nowhere_is_named(folder: Path, place: str) -> None:
    path = folder / place
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("nowhere")
    found = scan(folder, "float32")
    assert found.problems == (f"{path} is a link that leads nowhere",)
    assert len(list_files(found)) == len(FILES)


def test_a_link_that_leads_to_itself_is_passed_over(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    (folder / "bands/loop").symlink_to("..")
    assert len(list_files(scan(folder, "float32"))) == len(FILES)


@pytest.mark.parametrize(("place", "version"), [("bands", WHOLE), ("bands/9", 9)])
def test_a_folder_that_denies_access_is_named_and_costs_no_other(public_folder: Path, place: str, version: int) -> None:
    for path in ("bands/9/model.onnx", "grey-bands/1/model.onnx"):
        put(public_folder / path)
    with denied(public_folder / place):
        found = scan(public_folder, "float32")
    assert found.problems == (f"cannot read the folder {public_folder / place}: Permission denied",)
    assert found.unreadable == {("bands", version)}
    assert list_files(found) == [("grey-bands", 1, "model.onnx")]


def test_names_that_begin_with_a_dot_are_skipped(folder: Path) -> None:
    """A volume of Kubernetes keeps its contents under such names, and a copy that is under way often has one."""
    (folder / "hoops").symlink_to("..data/hoops")
    (folder / "..data").symlink_to("..2026_11_30")
    put(folder / "..2026_11_30/hoops/1/model.onnx")
    put(folder / "bands/9/.model.onnx.partial")
    put(folder / ".trash/1/model.onnx")
    found = scan(folder, "float32")
    assert found.problems == ()
    assert [name for name, _, _ in list_files(found)] == ["bands"] * 3 + ["grey-bands", "hoops"]


def test_a_link_that_is_swapped_gives_a_file_another_stamp(tmp_path: Path) -> None:
    (tmp_path / "bands").symlink_to("..data/bands")
    stamps = []
    for state in ("..first", "..second"):
        put(tmp_path / state / "bands/1/model.onnx")
        os.utime(tmp_path / state / "bands/1/model.onnx", (0, 0))
        (tmp_path / "..new").symlink_to(state)
        (tmp_path / "..new").rename(tmp_path / "..data")
        ((file,),) = scan(tmp_path, "float32").models.values()
        stamps.append(file.stamp)
    assert stamps[0] != stamps[1]


def test_other_bytes_of_the_same_size_and_time_give_a_file_another_stamp(folder: Path) -> None:
    path = folder / "bands/9/model.onnx"
    stamps = []
    for text in ("one", "two"):
        path.write_text(text)
        os.utime(path, (0, 0))
        stamps.append(scan(folder, "float32").models["bands"][1].stamp)
    assert stamps[0] != stamps[1]
