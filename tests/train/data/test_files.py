"""`train.data.files`: a file of a dataset is read, and anything else of its name is refused at once."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.errors import FolderUnusable
from serve.model_file.spec import InputSpec, PrepareSpec
from tests.train.data.test_pictures import PHOTO, RGB, write_shapes
from train.data import sources
from train.data.files import UnusableFile, read_file
from train.data.pictures import read_folder
from train.data.sources import SOURCES, DatasetError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="wanted FIFOs, which Windows has not")
TARGET: tuple[InputSpec, PrepareSpec] = (RGB, PHOTO)
Spoil = Callable[[Path], object]


def make_sparse(path: Path) -> None:
    """A file of 30 GB that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(30_000_000_000)


CASES = [
    pytest.param(os.mkfifo, "wanted a file, found a pipe, a device or a folder", id="FIFO"),
    pytest.param(lambda path: path.symlink_to("/dev/zero"), "wanted a file, found a pipe", id="endless device"),
    pytest.param(make_sparse, "bytes, found 30,000,000,000", id="30 GB"),
]


def test_a_file_of_just_the_most_bytes_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"four")
    assert read_file(tmp_path / "a", 4) == b"four"
    with pytest.raises(UnusableFile, match="wanted a file of at most 3 bytes, found 4"):
        read_file(tmp_path / "a", 3)


@pytest.mark.parametrize(("make", "problem"), CASES)
def test_what_is_no_picture_is_named_with_its_path_and_can_be_left_out(
    tmp_path: Path, make: Spoil, problem: str
) -> None:
    folder = write_shapes(tmp_path / "shapes", 10)
    make(folder / "disc" / "odd.png")
    with pytest.raises(FolderUnusable, match=problem) as caught:
        read_folder(folder, *TARGET)
    assert f"{folder / 'disc' / 'odd.png'}: wanted" in str(caught.value)
    assert "leave them out with --skip-broken" in str(caught.value)
    found = read_folder(folder, *TARGET, skip_broken=True)
    assert [each.file.name for each in found.broken] == ["odd.png"]


@pytest.mark.parametrize(("make", "problem"), CASES)
def test_what_is_no_published_file_is_named_with_its_path(tmp_path: Path, make: Spoil, problem: str) -> None:
    (tmp_path / "mnist").mkdir()
    for name in SOURCES["mnist"].md5s:
        (tmp_path / "mnist" / name).touch()
    odd = tmp_path / "mnist" / next(iter(SOURCES["mnist"].md5s))
    odd.unlink()
    make(odd)
    with pytest.raises(DatasetError, match="delete it to have it fetched again") as caught:
        sources.read_files(SOURCES["mnist"], tmp_path)
    assert f"{odd}: wanted" in str(caught.value)
    assert problem in str(caught.value)
