"""A Parquet file -> the images in one of its columns, in order.

Enters: a path and the name of a column. Leaves: a `Source`, or InklingError if the file is damaged. Does not know:
models, results. Memory holds one row group.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from serve.errors import ConfigError
from serve.score.scorer import take_bytes
from serve.score.sources.items import Item, Source, damaged

READ_ROWS = 64
"""Rows of a Parquet file that are in memory at a time, beside the row group that holds them."""


def open_parquet(place: str, column: str) -> Source:
    """The images in the named column, or in the only one that holds bytes. Raises ConfigError or InklingError."""
    try:
        import pyarrow.parquet as pq  # here: only this kind of input needs the extra [score]
    except ModuleNotFoundError as error:
        raise ConfigError('IN: a Parquet file needs pyarrow; pip install -e ".[score]" installs it') from error
    with _name_damage(place), pq.ParquetFile(place) as file:
        schema, count = file.schema_arrow, int(file.metadata.num_rows)
    chosen = column or choose_column(place, schema)
    if chosen not in schema.names:
        raise ConfigError(f"--column: wanted one of {', '.join(schema.names)}; got {chosen}")
    if column and is_number_or_text(kind := schema.field(chosen).type):
        raise ConfigError(f"--column: wanted bytes, or a structure with a field bytes; {chosen} is {kind}")
    return Source("parquet", lambda: _read_rows(place, chosen), lambda: count)


@contextmanager
def _name_damage(place: str) -> Iterator[None]:
    """Raise what pyarrow raises of a damaged file as an InklingError with the path."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is not UTF-8
        raise damaged(place, "Parquet", error) from error


def is_number_or_text(kind: Any) -> bool:
    """Whether the cells of this type are certainly no image files; other types are tried."""
    import pyarrow as pa

    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def holds_bytes(kind: Any) -> bool:
    """Whether a column of this type has bytes in its cells, plain or in a structure with a field `bytes`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return bool(at >= 0 and holds_bytes(kind.field(at).type))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def choose_column(place: str, schema: Any) -> str:
    """The only column that holds bytes, plain or in a structure with a field `bytes`."""
    found = [field.name for field in schema if holds_bytes(field.type)]
    if len(found) != 1:
        raise ConfigError(
            f"{place}: wanted one column of image files, found {len(found)} among {', '.join(schema.names)}; "
            "name it with --column"
        )
    return str(found[0])


def _read_rows(place: str, column: str) -> Iterator[Item]:
    """Rows in order, named by the column `path`, or else by the file and the number of the row."""
    import pyarrow.parquet as pq

    with _name_damage(place), pq.ParquetFile(place) as file:
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
