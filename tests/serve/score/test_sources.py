"""serve.score.sources: an input that is damaged somewhere is an error with its path, and no shorter list of images."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from serve.errors import ConfigError, InklingError
from serve.score.sources.archive import read_tar
from serve.score.sources.find import open_source

Pack = Callable[[bytes], bytes]
PACKS = [gzip.compress, bz2.compress, lzma.compress]


HIDDEN = ("._a.png", ".cache/a.png", "__MACOSX/a.png", "b/__MACOSX/._a.png", "b/.a.png", "@eaDir/a.png")
"""What a Mac, other programs and users hide."""


def make_tar(headers: dict[str, str] | None = None, names: Sequence[str] = ("a.png", "b.png")) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 4, headers or {}
            archive.addfile(member, io.BytesIO(b"data"))
    return buffer.getvalue()


def read_names(data: bytes, tmp_path: Path) -> list[str]:
    path = tmp_path / "images.tar"
    path.write_bytes(data)
    return [item.name for item in read_tar(str(path))]


def test_a_whole_archive_gives_its_images(tmp_path: Path) -> None:
    assert read_names(make_tar(), tmp_path) == ["a.png", "b.png"]


def test_hidden_members_of_an_archive_are_no_images(tmp_path: Path) -> None:
    names = ["./a.png", "../b.png", "b/c.PNG"]
    assert read_names(make_tar(names=[*HIDDEN, *names]), tmp_path) == names


def test_hidden_files_of_a_folder_are_no_images(tmp_path: Path) -> None:
    for name in (*HIDDEN, "b/c.PNG", "a.png", "notes.txt"):
        path = tmp_path / ".folder" / name  # the folder that a user names may be hidden
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    source = open_source(str(tmp_path / ".folder"))
    assert [Path(item.name).name for item in source.items()] == ["a.png", "c.PNG"]
    assert source.count() == 2


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "of.png").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "z.png").symlink_to(tmp_path / "a.png")
    names = [Path(item.name).name for item in open_source(str(tmp_path)).items()]
    assert names == ["a.png", "z.png"]


@pytest.mark.parametrize("at", [1024, 1024 + 150], ids=["name", "checksum"])
def test_a_damaged_header_in_the_middle_is_no_end(tmp_path: Path, at: int) -> None:
    data = bytearray(make_tar())
    data[at] ^= 0xFF
    with pytest.raises(InklingError, match="wanted a whole tar file"):
        read_names(bytes(data), tmp_path)


def test_a_header_of_another_format_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    headers = {"GNU.sparse.map": "1,x", "GNU.sparse.major": "0", "GNU.sparse.size": "4"}
    with pytest.raises(InklingError, match="wanted a whole tar file"):
        read_names(make_tar(headers), tmp_path)


def read_all(data: bytes, folder: Path) -> list[object]:
    """The images of an input of that content."""
    path = folder / "images"
    path.write_bytes(data)
    return [item.load() if item.load else None for item in open_source(str(path)).items()]


@pytest.mark.parametrize("pack", PACKS)
def test_a_compressed_archive_in_two_parts_gives_all_its_images(tmp_path: Path, pack: Pack) -> None:
    """Programs that compress on several cores write such files."""
    data = make_tar()
    assert read_all(pack(data[:1500]) + pack(data[1500:]), tmp_path) == [b"data", b"data"]


@pytest.mark.parametrize("pack", PACKS)
def test_a_compressed_archive_that_ends_too_early_is_an_error(tmp_path: Path, pack: Pack) -> None:
    data = pack(make_tar() + bytes(100_000))
    with pytest.raises(InklingError, match="images: wanted a whole tar file, got one that cannot be read on: "):
        read_all(data[:-6], tmp_path)


def test_an_archive_in_gzip_with_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(make_tar()))
    data[-5] ^= 1
    with pytest.raises(InklingError, match=r"images: wanted a whole tar file, .*: CRC check failed"):
        read_all(bytes(data), tmp_path)


@pytest.mark.parametrize(("pack", "name"), list(zip(PACKS, ["gzip", "bzip2", "xz"], strict=True)))
def test_a_compressed_file_without_a_readable_start_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    for data in (pack(b"no tar"), pack(make_tar())[:30]):
        with pytest.raises(ConfigError, match=f"images: wanted a tar in {name}, got a file that is damaged or holds"):
            read_all(data, tmp_path)


def make_table() -> bytes:
    pa = pytest.importorskip("pyarrow", reason="needs the extra [score]")
    pq = pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [b"data" * 100] * 20}), buffer, compression="gzip")
    return buffer.getvalue()


@pytest.mark.parametrize("at", [-3, -10, 60], ids=["magic", "footer", "page"])
def test_a_damaged_parquet_file_is_an_error_with_its_path(tmp_path: Path, at: int) -> None:
    data = bytearray(make_table())
    data[at] ^= 0xFF
    with pytest.raises(InklingError, match="images: wanted a whole Parquet file, got one that cannot be read on: "):
        read_all(bytes(data), tmp_path)
