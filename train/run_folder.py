"""The folder that a run writes to: locked by one process, and each version appears whole or not at all.

Enters: a folder that may exist. Leaves: a context in which no other training or study writes there, or an error; the
folder of a version under its number. Does not know: what is written.
The operating system releases the lock when the process ends, however it ends. No lock file is left behind.
"""

import errno
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
    """Another process writes to the folder."""


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Make a folder and lock it for this process. Raises FolderTaken, and OSError if it cannot be written to.

    Two runs would overwrite each other's checkpoint, and one of them would only notice hours later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    if sys.platform == "win32":  # it has no flock, and cannot open a folder
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    import fcntl  # not above: Windows has no such module

    with suppress(OSError):  # some network file systems have no locks: work without one
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderTaken(f"{folder}: wanted it for this run only, but another process trains there") from error


@contextmanager
def name_errors(path: Path) -> Iterator[None]:
    """Name the path in every OSError that names none. Errors of writing name none, only those of opening do."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None or isinstance(error, BrokenPipeError):  # that is stdout's
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def partial_folder(model_folder: Path) -> Iterator[Path]:
    """A hidden folder in which to build a version. It is removed when the block ends, unless it was published."""
    partial = model_folder / f".{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # a killed process with the same number may have left it
    try:
        partial.mkdir(parents=True)
        with name_errors(model_folder):
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path) -> Path:
    """Rename a finished folder to its version, the highest beside it plus one. Returns the new path.

    All of it is on the disk then: a checkpoint may be removed, and a power cut leaves the version.
    """
    for path in (*partial.rglob("*"), partial):
        _write_out(path)
    folder = partial.rename(partial.parent / str(next_version(partial.parent)))
    _write_out(folder.parent)
    return folder


def _write_out(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk, where the file system can tell. Raises OSError."""
    if sys.platform == "win32":  # it opens no folder, and syncs no file that is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(descriptor)
