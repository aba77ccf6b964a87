"""A path -> the bytes of one file of a dataset, if it is a file of a possible size; or its name as text.

Enters: a path, the most bytes that are wanted. Leaves: its bytes, or UnusableFile. Does not know: what is in it.
"""

import os
import stat
from pathlib import Path

from serve.errors import InklingError


class UnusableFile(InklingError):
    """What lies at a path is no file, too large, or cannot be read. The message does not repeat the path."""


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a file that has at most `max_bytes`. Raises UnusableFile before anything is read, or for a failed read."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnusableFile("wanted a file, found a pipe, a device or a folder")
            if status.st_size > max_bytes:
                raise UnusableFile(f"wanted a file of at most {max_bytes:,} bytes, found {status.st_size:,}")
            return file.read()
    except OSError as error:
        raise UnusableFile(f"wanted a file that can be read, found: {error.strerror}") from error


def spell_name(path: Path) -> str:
    """The name of a file or folder as UTF-8, as metadata hold no other. Escapes stand for bytes that are none."""
    return os.fsencode(path.name).decode(errors="backslashreplace")
