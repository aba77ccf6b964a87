"""Columns of answers -> bytes of CSV, JSON lines or Parquet, in pieces that are joined to one file.

Enters: columns of one chunk of images. Leaves: the bytes of a piece, and a whole file from many.
Does not know: images, models, which pieces are done.
"""

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from serve.errors import ConfigError
from serve.score.scorer import Columns, is_number


class Format(Protocol):
    """How rows are written. The bytes of pieces may be put behind each other."""

    def encode(self, columns: Columns) -> bytes:
        """The bytes of some rows."""

    def join(self, columns: Sequence[str], pieces: Iterable[Path], out: Path) -> None:
        """Write the whole file from pieces in order."""


def find_format(out: Path) -> Format:
    """The format that a suffix names. Raises ConfigError."""
    suffix = out.suffix.lower()
    if suffix == ".csv":
        return Csv()
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines()
    if suffix == ".parquet":
        return Parquet()
    raise ConfigError(f"--out: wanted a file that ends in .csv, .jsonl or .parquet; got {out}")


def to_text(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _shorten(value: Any) -> Any:
    """A number with the nine digits that tell every float32 from the others; anything else as it is."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _rows(columns: Columns) -> Iterator[tuple[Any, ...]]:
    return zip(*columns.values(), strict=True)


def _copy(pieces: Iterable[Path], file: IO[bytes]) -> None:
    for piece in pieces:
        with piece.open("rb") as source:
            shutil.copyfileobj(source, file)


class Csv:
    """RFC 4180 with line feeds, a row of names first, and nothing where there is no value."""

    def encode(self, columns: Columns) -> bytes:
        """Lines."""
        return "".join(_to_line(list(map(_shorten, row))) for row in _rows(columns)).encode()

    def join(self, columns: Sequence[str], pieces: Iterable[Path], out: Path) -> None:
        """Put the row of names in front."""
        with out.open("wb") as file:
            file.write(_to_line(columns).encode())
            _copy(pieces, file)


def _to_line(row: Sequence[Any]) -> str:
    """A row and a line feed. Python before 3.11.9 quotes only the line breaks of the line terminator."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + "\n"


class JsonLines:
    """An object a line, with null where there is no value."""

    def encode(self, columns: Columns) -> bytes:
        """Lines."""
        rows = (dict(zip(columns, map(_shorten, row), strict=True)) for row in _rows(columns))
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()

    def join(self, columns: Sequence[str], pieces: Iterable[Path], out: Path) -> None:
        """One behind the other."""
        with out.open("wb") as file:
            _copy(pieces, file)


class Parquet:
    """A row group for each piece. A piece is a sequence of Arrow's streams."""

    def __init__(self) -> None:
        try:
            import pyarrow.parquet  # noqa: F401  # here and below: only Parquet needs the extra [score]
        except ModuleNotFoundError as error:
            raise ConfigError('--out: Parquet needs pyarrow; pip install -e ".[score]" installs it') from error

    def encode(self, columns: Columns) -> bytes:
        """One stream."""
        import pyarrow as pa

        buffer = io.BytesIO()
        table = to_table(columns)
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        return buffer.getvalue()

    def join(self, columns: Sequence[str], pieces: Iterable[Path], out: Path) -> None:
        """Write a piece at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetWriter(out, make_schema(columns)) as writer:
            for piece in pieces:
                writer.write_table(pa.concat_tables(_read_streams(piece)).combine_chunks())


def make_schema(columns: Sequence[str]) -> Any:
    """The schema of columns of answers: texts and float32, which may be null."""
    import pyarrow as pa

    return pa.schema([(name, pa.float32() if is_number(name) else pa.string()) for name in columns])


def to_table(columns: Columns) -> Any:
    """Columns of answers as a table of Arrow."""
    import pyarrow as pa

    return pa.table(columns, schema=make_schema(tuple(columns)))


def _read_streams(piece: Path) -> Iterator[Any]:
    import pyarrow as pa

    size = piece.stat().st_size
    with piece.open("rb") as file:
        while file.tell() < size:
            with pa.ipc.open_stream(file) as reader:
                yield reader.read_all()
