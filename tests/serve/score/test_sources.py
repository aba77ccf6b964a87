"""serve.score.sources: an archive that is damaged somewhere is an error, and no shorter list of images."""

import io
import tarfile
from pathlib import Path

import pytest

from serve.errors import InklingError
from serve.score.sources import read_tar


def make_tar(headers: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a.png", "b.png"):
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
