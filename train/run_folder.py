"""The folder that a run writes to: claimed by one process, and each version put there whole or not at all.

Enters: a folder, there or not. Leaves: a context in which no other training or study works there, or an error; a
version's folder under its number. Does not know: what is written.
The system ends a claim with its process, however that ends; nothing is left in the folder.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serve.errors import InklingError
from serve.model_file.folder import next_version


class FolderTaken(InklingError):
    """Another process works in the folder."""


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


@contextmanager
def partial_folder(model_folder: Path) -> Iterator[Path]:
    """A hidden folder to put a version together in; whatever is left in it when the block ends goes."""
    partial = model_folder / f".{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had this number
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path) -> Path:
    """Give a finished folder its version, the highest beside it plus one, in one step."""
    return partial.rename(partial.parent / str(next_version(partial.parent)))
