"""The names on a command line -> image files, and their bytes.

Enters: names of files, folders and globs, or `-` for standard input. Leaves: names in order, and bytes, or CallError.
Does not know: gRPC, or what an image is (`serve/folders.py` knows which files of a folder are pictures).
"""

import glob
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from serve.errors import CallError
from serve.folders import LeftOut, list_pictures

STANDARD_INPUT = "-"
"""The name that stands for standard input. A file of that name is `./-`."""


@dataclass(frozen=True, slots=True)
class Images:
    """The names of files, in order, and what folders among the given names hold besides."""

    names: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def find_images(names: Iterable[str]) -> Images:
    """The files that names, folders and globs stand for. A name without a match and an empty folder are kept."""
    images = Images()
    for name in names:
        for path in [name] if name in ("", STANDARD_INPUT) else _match(name):
            if not is_folder(path):
                images.names.append(path)
                continue
            listing = list_pictures(Path(path))
            images.names.extend(map(str, listing.files) if listing.files else [path])
            images.left_out.extend(listing.left_out)
    return images


def _match(name: str) -> list[str]:
    """An existing path is taken literally, even if it looks like a glob: `photo[1].png` is a common name."""
    if os.path.lexists(name):
        return [name]
    return sorted(glob.glob(name, recursive=True)) or [name]  # noqa: PTH207  # Path.glob takes no absolute patterns


def is_folder(path: Path | str) -> bool:
    """Whether a path is a folder. False if the system cannot tell: the name is too long, or access is denied."""
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises there


def read_image(name: str, max_bytes: int) -> bytes:
    """The bytes of a file. Raises CallError before it reads a file that is too large, or no file at all."""
    if not name:
        raise _unreadable("wanted the name of a file, got an empty one")
    if is_folder(name):
        raise CallError("INVALID_ARGUMENT", "FOLDER_EMPTY", "wanted images in the folder, found none")
    try:
        # A FIFO without a writer would make a blocking open wait for ever.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable("wanted a file, found a pipe, a socket or a device")
            check_size(status.st_size, max_bytes)
            data = file.read(max_bytes + 1)  # it may have grown since
    except (OSError, ValueError) as error:  # ValueError: the name has a null character
        raise _unreadable(f"wanted a file that can be read: {error}") from error
    check_size(len(data), max_bytes)
    return data


def read_standard_input(max_bytes: int) -> bytes:
    """What comes on standard input until it ends. Raises CallError if it is closed or too long."""
    if sys.stdin is None:
        raise _unreadable("wanted an image on standard input, which is closed")
    try:
        data = sys.stdin.buffer.read(max_bytes + 1)
    except OSError as error:
        raise _unreadable(f"wanted an image on standard input: {error}") from error
    check_size(len(data), max_bytes)
    return data


def check_size(size: int, max_bytes: int) -> None:
    """Raise CallError if a file's size is above the limit."""
    if size > max_bytes:
        sentence = f"wanted a file of at most {max_bytes:,} bytes, got {size:,} or more"
        raise CallError("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", sentence)


def _unreadable(sentence: str) -> CallError:
    return CallError("INVALID_ARGUMENT", "FILE_UNREADABLE", sentence)
