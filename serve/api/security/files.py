"""Files that are read again when they change, so that a new certificate or token needs no restart.

Enters: paths, and a function that reads them. Leaves: the content that is in force.
Does not know: what the files hold.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from serve.errors import ConfigError
from serve.telemetry.logs import one_line

logger = logging.getLogger(__name__)

Content = TypeVar("Content")

CHECK_S = 1.0
"""Seconds between two looks at the files. A change is in force after two or three of them."""


class WatchedFiles(Generic[Content]):
    """The content of files that belong together. The last good content stays in force where a new one is wrong.

    Files are compared by device, inode, size and times. So a symbolic link that points elsewhere is a change, too,
    which is how Kubernetes replaces a mounted Secret.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], Content],
        describe: Callable[[Content], str],
        *,
        is_quiet: bool = False,
    ) -> None:
        """Raises ConfigError if the first content is wrong.

        `describe` says what the log tells of a content. `is_quiet` logs nothing, for another process does.
        """
        self._paths = paths
        self._read = read
        self._describe = describe
        self._is_quiet = is_quiet
        self._problem = ""
        self._seen = self._in_force = [_stamp(path) for path in paths]
        self.content = read()
        """In force now. It is replaced as a whole."""
        self._log(logging.INFO, f"in force: {describe(self.content)}")

    async def watch(self) -> None:
        """Check the files every CHECK_S, in a thread: a file system may take its time."""
        while True:
            await asyncio.sleep(CHECK_S)
            await asyncio.to_thread(self.check)

    def check(self) -> None:
        """Read the files again if they have changed, but have not since the last check: a writer may need a moment."""
        stamps = [_stamp(path) for path in self._paths]
        has_settled, self._seen = stamps == self._seen, stamps
        if not has_settled or (stamps == self._in_force and not self._problem):
            return
        try:
            content = self._read()
        except Exception as error:  # wrong in whatever way; the watch goes on
            self._report(str(error) if isinstance(error, ConfigError) else repr(error))
            return
        if stamps == [_stamp(path) for path in self._paths]:  # else it may be half of the old and half of the new
            self.content, self._in_force, self._problem = content, stamps, ""
            self._log(logging.INFO, f"in force: {self._describe(content)}")

    def _report(self, problem: str) -> None:
        """Log a problem once, however often it is met."""
        if problem != self._problem:
            self._problem = problem
            self._log(logging.ERROR, f"{problem}; what was read before stays in force")

    def _log(self, level: int, text: str) -> None:
        if not self._is_quiet:
            logger.log(level, "%s", one_line(text))


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does; nothing at all if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
