"""A folder -> one that a single process writes to, for as long as it runs.

Enters: a folder, there or not. Leaves: a context in which no other training or study works there, or an error. Does not
know: what is written. The system ends a claim with its process, however that ends; nothing is left in the folder.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serve.errors import InklingError


class FolderTaken(InklingError):
    """Another process works in the folder."""

    reason = "FOLDER_TAKEN"


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Make a folder, and keep it to this process. Raises FolderTaken, and OSError where it cannot be written to.

    Two runs would write over each other what either has reached, and one would find that out hours later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    if sys.platform == "win32":  # has no flock, and opens no folders
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    import fcntl  # here: it does not exist for Windows

    with suppress(OSError):  # a file system without locks, as some networks': then as if there were no other
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderTaken(f"{folder}: wanted it for this run alone, another process trains there") from error
