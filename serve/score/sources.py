"""What a user names -> images in a fixed order, one at a time: a folder, a glob, a list, a tar or a Parquet file.

Enters: the argument IN. Leaves: `Item`s, whose bytes are read when they are needed. Does not know: models, results.
Memory does not grow with the number of images, except for the names in one folder, which are sorted.
"""

import functools
import glob
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from serve.errors import ConfigError, ImageTooLarge, InklingError
from serve.folders import has_image_suffix
from serve.score.scorer import take_bytes

MOST_FILE_BYTES = 256 * 2**20
"""Bytes of an image file. A larger one becomes a row with an error, and is not read."""
STANDARD_INPUT = "-"
READ_ROWS = 64
"""Rows of a Parquet file that are in memory at a time, beside the row group that holds them."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image by its name."""

    name: str
    """Its path; in an archive the name there, in a table the path column or the row's number."""
    load: Callable[[], bytes | Exception] | None = None
    """Gives its bytes at once, before the next item; None if `name` is a file that anybody can read at any time."""


@dataclass(frozen=True, slots=True)
class Source:
    """Images in order."""

    kind: str
    items: Callable[[], Iterator[Item]]
    count: Callable[[], int | None]
    """Their number, or None if only reading all of them tells."""


def open_source(place: str, column: str = "") -> Source:
    """Recognise what IN is, by its content. Raises ConfigError. `column` has the images of a Parquet file."""
    if place == STANDARD_INPUT:
        return _from_list(sys.stdin.buffer.read())
    path = Path(place)
    if path.is_dir():
        return Source("folder", lambda: map(Item, _walk(place)), lambda: sum(1 for _ in _walk(place)))
    if not path.is_file():
        return _from_glob(place)
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet:
        return _from_parquet(place, column)
    if tarfile.is_tarfile(path):
        return Source("tar", lambda: read_tar(place), lambda: None)
    if has_image_suffix(place):
        return Source("file", lambda: iter([Item(place)]), lambda: 1)
    raise ConfigError(f"IN: wanted a folder, a glob, - for a list, a tar or a Parquet file; {place} is none of them")


def read_file(name: str) -> bytes | Exception:
    """The bytes of an image file, or the error that its row gets."""
    try:
        # A FIFO without a writer would make a blocking open wait for ever.
        with open(name, "rb", opener=_open_at_once) as file:
            data = file.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: the name has a null character
        return error if isinstance(error, OSError) else OSError(0, str(error))
    if len(data) > MOST_FILE_BYTES:
        return ImageTooLarge(f"wanted a file of at most {MOST_FILE_BYTES:,} bytes, got a larger one")
    return data


def _open_at_once(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _walk(folder: str) -> Iterator[str]:
    """The images below a folder, sorted in each, folders among files. A folder that cannot be read is an OSError."""
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in names:
        path = os.path.join(folder, name)  # noqa: PTH118  # paths stay texts, which are many
        if is_folder:
            yield from _walk(path)
        elif has_image_suffix(name):
            yield path


def _from_glob(place: str) -> Source:
    names = sorted(name for name in glob.glob(place, recursive=True) if not os.path.isdir(name))  # noqa: PTH112, PTH207
    if not names:
        raise ConfigError(f"IN: wanted images, found nothing at {place}")
    return Source("glob", lambda: map(Item, names), lambda: len(names))


def _from_list(text: bytes) -> Source:
    """Of names on lines, which are kept as one text: a million of them are some ten megabytes."""
    return Source("list", lambda: _read_lines(text), lambda: sum(1 for _ in _read_lines(text)))


def _read_lines(text: bytes) -> Iterator[Item]:
    start = 0
    while start < len(text):
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        if line := text[start:end].rstrip(b"\r"):
            yield Item(os.fsdecode(line))
        start = end + 1


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
        with tarfile.open(place, "r|*", file, tarinfo=_Header) as archive:
            while (member := archive.next()) is not None:
                if member.isreg() and has_image_suffix(member.name):
                    yield Item(member.name, functools.partial(_read_member, place, archive, member))
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep every one in memory
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise _damaged(place, error) from error


def _read_member(place: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Exception:
    if member.size > MOST_FILE_BYTES:
        return ImageTooLarge(f"wanted a file of at most {MOST_FILE_BYTES:,} bytes, got {member.size:,}")
    try:
        file = archive.extractfile(member)
        return file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise _damaged(place, error) from error


def _damaged(place: str, error: Exception) -> InklingError:
    return InklingError(f"{place}: wanted a whole tar file, got one that cannot be read on: {error}")


def _from_parquet(place: str, column: str) -> Source:
    try:
        import pyarrow.parquet as pq  # here: only this kind of input needs the extra [score]
    except ModuleNotFoundError as error:
        raise ConfigError('IN: a Parquet file needs pyarrow; pip install -e ".[score]" installs it') from error
    file = pq.ParquetFile(place)
    chosen = column or choose_column(place, file.schema_arrow)
    if chosen not in file.schema_arrow.names:
        raise ConfigError(f"--column: wanted one of {', '.join(file.schema_arrow.names)}; got {chosen}")
    return Source("parquet", lambda: _read_parquet(place, chosen), lambda: int(file.metadata.num_rows))


def choose_column(place: str, schema: Any) -> str:
    """The only column that holds bytes, plain or in a structure with a field `bytes`."""
    import pyarrow as pa

    def holds_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    found = [field.name for field in schema if holds_bytes(field.type)]
    if len(found) != 1:
        raise ConfigError(
            f"{place}: wanted one column of image files, found {len(found)} among {', '.join(schema.names)}; "
            "name it with --column"
        )
    return str(found[0])


def _read_parquet(place: str, column: str) -> Iterator[Item]:
    """Rows in order, named by the column `path`, or else by the file and the number of the row."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(place) as file:
        has_path = "path" in file.schema_arrow.names and column != "path"
        wanted = [column, "path"] if has_path else [column]
        number = 0
        for batch in file.iter_batches(READ_ROWS, columns=wanted, use_threads=False):
            names = batch.column("path").to_pylist() if has_path else [None] * len(batch)
            cells = batch.column(column)
            for at, name in enumerate(names):
                yield Item(str(name or f"{place}#{number}"), functools.partial(_read_cell, cells, at))
                number += 1


def _read_cell(cells: Any, at: int) -> bytes | Exception:
    return take_bytes(cells[at].as_py())
