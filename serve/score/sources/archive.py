"""A tar -> its images in order, in one pass, whether it is compressed or not.

Enters: a path, or an open file. Leaves: `Item`s, or InklingError if the archive is damaged. Does not know: models,
results. gzip, bzip2 and xz are unpacked here and not by tarfile, which does not compare their checksums.
"""

import bz2
import functools
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, Self

from serve.errors import ImageTooLarge
from serve.folders import has_image_suffix, is_visible_name
from serve.score.sources.items import MOST_FILE_BYTES, Item, damaged

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x5d\x00\x00": "xz"}
"""The first bytes of compressed files, and what the compression is called. The last one is that of old xz files."""
READ_BYTES = 2**20
"""Bytes behind the end of an archive that are read at a time."""
DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
"""Errors of an archive that is damaged, in itself or in its compression."""


class _Header(tarfile.TarInfo):
    """A header whose damage is an error; tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError | tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
                raise
            raise tarfile.ReadError(str(error)) from error


def read_tar(place: str, file: IO[bytes] | None = None) -> Iterator[Item]:
    """The images of an archive, compressed or not, in one pass. Raises InklingError if it is damaged."""
    try:
        with file or Path(place).open("rb") as packed, _unpack(packed) as plain:
            with tarfile.open(place, "r|", plain, tarinfo=_Header) as archive:
                while (member := archive.next()) is not None:
                    if member.isreg() and _is_image(member.name):
                        yield Item(member.name, functools.partial(_read_member, place, archive, member))
                    archive.members.clear()  # type: ignore[attr-defined]  # it would keep every one in memory
            while plain.read(READ_BYTES):  # the checksum of a compressed file comes last
                pass
    except DAMAGE as error:
        raise damaged(place, "tar", error) from error


def _is_image(name: str) -> bool:
    """Whether a member is one by its suffix, and neither it nor a folder of it is hidden or left by a program."""
    return has_image_suffix(name) and all(is_visible_name(part) for part in name.split("/") if part not in (".", ".."))


def is_tar(path: Path) -> bool:
    """Whether a file is a tar. One whose first header cannot be unpacked is none."""
    try:
        return tarfile.is_tarfile(path)
    except DAMAGE:
        return False


def find_compression(file: IO[bytes]) -> str:
    """The name of a file's compression, found in its first bytes; none for a plain file."""
    head = file.read(max(map(len, COMPRESSIONS)))
    file.seek(0)
    return next((name for start, name in COMPRESSIONS.items() if head.startswith(start)), "")


def _unpack(file: IO[bytes]) -> AbstractContextManager[Any]:
    """What reads the plain bytes of a file."""
    openers: dict[str, Callable[[IO[bytes]], AbstractContextManager[Any]]] = {
        "gzip": gzip.open,
        "bzip2": bz2.open,
        "xz": lzma.open,
    }
    return openers.get(find_compression(file), nullcontext)(file)


def _read_member(place: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Exception:
    if member.size > MOST_FILE_BYTES:
        return ImageTooLarge(f"wanted a file of at most {MOST_FILE_BYTES:,} bytes, got {member.size:,}")
    try:
        file = archive.extractfile(member)
        return file.read() if file else b""
    except DAMAGE as error:
        raise damaged(place, "tar", error) from error
