"""A folder for the Unix sockets on which workers answer the web process, and which no other user may enter.

Enters: nothing. Leaves: a folder, or ConfigError. Does not know: who listens, who calls.
"""

import contextlib
import tempfile
from pathlib import Path

from serve.errors import ConfigError

LONGEST_PATH = 90
"""Characters of a socket's path. The system takes 107."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of its own is made there
"""Writable also in a container whose root is not."""


def make_folder() -> Path:
    """A new folder with mode 0700. Raises ConfigError if there is no place for it."""
    for parent in (None, SHARED_MEMORY):
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="inkling-", dir=parent))
            if len(str(folder)) <= LONGEST_PATH:
                return folder
            folder.rmdir()
    raise ConfigError("--web-port: wanted a folder for sockets with a short path; set TMPDIR to one that is writable")


def remove_folder(folder: Path) -> None:
    """Remove the folder and what is left in it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
