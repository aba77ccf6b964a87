"""What a user names -> images in a fixed order, one at a time: a folder, a glob, a list, a tar or a Parquet file.

Enters: the argument IN. Leaves: `Item`s, whose bytes are read when they are needed. Does not know: models, results.
Memory does not grow with the number of images, except for the names in one folder, which are sorted.
"""

import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from serve.errors import ConfigError
from serve.folders import has_image_suffix, is_visible_name
from serve.score.sources.archive import find_compression, is_tar, read_tar
from serve.score.sources.items import Item, Source
from serve.score.sources.table import open_parquet

STANDARD_INPUT = "-"


def open_source(place: str, column: str = "") -> Source:
    """Recognise what IN is, by its content. `column` has the images of a Parquet file.

    Raises ConfigError, and InklingError for a damaged Parquet file.
    """
    if place == STANDARD_INPUT:
        return _from_list(_read_standard_input())
    path = Path(place)
    if path.is_dir():
        return Source("folder", lambda: map(Item, _walk(place)), lambda: sum(1 for _ in _walk(place)))
    if not path.is_file():
        return _from_glob(place)
    with path.open("rb") as file:
        compression = find_compression(file)
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet:
        return open_parquet(place, column)
    if is_tar(path):
        return Source("tar", lambda: read_tar(place), lambda: None)
    if has_image_suffix(place):
        return Source("file", lambda: iter([Item(place)]), lambda: 1)
    if compression:
        raise ConfigError(f"IN: {place}: wanted a tar in {compression}, got a file that is damaged or holds no tar")
    raise ConfigError(f"IN: wanted a folder, a glob, - for a list, a tar or a Parquet file; {place} is none of them")


def _read_standard_input() -> bytes:
    if sys.stdin is None:
        raise ConfigError("IN: wanted a list of names on standard input, which is closed")
    return sys.stdin.buffer.read()


def _walk(folder: str) -> Iterator[str]:
    """The images below a folder, sorted in each, folders among files. A folder that cannot be read is an OSError.

    Hidden entries, and those that other programs leave, are no images: the half of a file that a Mac adds is called so.
    Links to folders are not followed, for they may lead in a circle.
    """
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if is_visible_name(entry.name) and not _is_link_to_folder(entry)]
        names = sorted((entry.name, entry.is_dir()) for entry in visible)
    for name, is_folder in names:
        path = os.path.join(folder, name)  # noqa: PTH118  # paths stay texts, which are many
        if is_folder:
            yield from _walk(path)
        elif has_image_suffix(name):
            yield path


def _is_link_to_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and entry.is_dir()


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
