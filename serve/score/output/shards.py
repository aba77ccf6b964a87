"""A run in pieces: each finished shard is a file, so that an interrupted run goes on behind the last one.

Enters: what the run is (a plan), and pieces of shards in order. Leaves: the whole file, in one step, at the end.
Does not know: what a piece holds, how it was made.
A shard's name holds a digest of its images' names, so that a run never goes on with other images.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from serve.errors import ConfigError, InklingError
from serve.score.output.formats import Format

PLAN = "plan.json"
UNFINISHED_PLAN = f"{PLAN}.unfinished"
UNFINISHED = "unfinished"
WHOLE = "whole"
OWN = (PLAN, UNFINISHED_PLAN, UNFINISHED, WHOLE)
"""Names that a run gives beside those of its shards."""
SHARD = re.compile(r"([0-9]{6,})-[0-9a-f]{16}")
"""The name of a shard: its number, and the first digits of a digest."""


class Shards:
    """The folder of shards beside the file that a run writes. A context: one process at a time has it."""

    def __init__(self, out: Path, plan: Mapping[str, Any]) -> None:
        self._out = out
        self._plan = json.loads(json.dumps(plan))
        self._folder = out.with_name(f"{out.name}.shards")
        self._partial = self._folder / UNFINISHED
        self._file: IO[bytes] | None = None
        self._lock: int = -1
        self._done: dict[int, Path] = {}

    def __enter__(self) -> Self:
        """Make or find the folder. Raises ConfigError if it has other files, or a run with other settings began it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._folder)
        try:
            self._check_plan()
        except BaseException:
            os.close(self._lock)
            raise
        self._done = {int(name[1]): path for path in self._folder.iterdir() if (name := SHARD.fullmatch(path.name))}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._file:
            self._file.close()
        if not self._done and self._folder.exists():  # nothing to go on from
            self._remove()
        os.close(self._lock)

    @property
    def done_count(self) -> int:
        """Finished shards."""
        return len(self._done)

    def is_done(self, number: int) -> bool:
        """Whether a shard is finished."""
        return number in self._done

    def check(self, number: int, digest: str) -> None:
        """Raise ConfigError if a finished shard has other images than this digest's."""
        if self._done[number] != self._name(number, digest):
            raise ConfigError(
                f"the images of shard {number} are others than when it was scored; put them back, or remove "
                f"{self._folder} to begin anew"
            )

    def check_end(self, count: int) -> None:
        """Raise ConfigError if there were more shards than `count`."""
        if max(self._done, default=-1) >= count:
            raise ConfigError(
                f"there are fewer images than when they were scored; put them back, or remove {self._folder} to begin "
                "anew"
            )

    def append(self, data: bytes) -> None:
        """Add rows to the unfinished shard, which begins empty."""
        if self._file is None:
            self._file = self._partial.open("wb")
        self._file.write(data)

    def finish(self, number: int, digest: str) -> None:
        """Give the unfinished shard its name, once it is on the disk."""
        if self._file is None:
            raise ValueError("a shard has at least one row")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._done[number] = self._partial.replace(self._name(number, digest))

    def join(self, columns: Sequence[str], form: Format) -> None:
        """Write the whole file from all shards, then remove them."""
        whole = self._folder / WHOLE
        form.join(columns, [self._done[number] for number in sorted(self._done)], whole)
        with whole.open("rb+") as file:
            os.fsync(file.fileno())
        whole.replace(self._out)
        self._remove()

    def _name(self, number: int, digest: str) -> Path:
        return self._folder / f"{number:06d}-{digest[:16]}"

    def _remove(self) -> None:
        """Remove what runs write, the plan last, and then the folder, unless it has files of others."""
        for path in sorted(self._folder.iterdir(), key=lambda path: path.name == PLAN):
            if path.name in OWN or SHARD.fullmatch(path.name):
                path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _check_plan(self) -> None:
        before = self._find_plan()
        if not before:
            partial = self._folder / UNFINISHED_PLAN
            partial.write_text(json.dumps(self._plan, indent=1))
            partial.replace(self._folder / PLAN)
            return
        names = [name for name in {**before, **self._plan} if before.get(name) != self._plan.get(name)]
        if names:
            changes = "; ".join(f"{name} was {before.get(name)!r} and is {self._plan.get(name)!r}" for name in names)
            raise ConfigError(
                f"{self._folder} is of a run with other settings ({changes}); use the same, or remove it to begin anew"
            )

    def _find_plan(self) -> dict[str, Any]:
        """The plan of an interrupted run; empty in an empty folder. Raises ConfigError in a folder of others."""
        if {path.name for path in self._folder.iterdir()} <= {UNFINISHED_PLAN}:
            return {}
        with suppress(FileNotFoundError, ValueError):  # ValueError: a text that is no JSON
            plan = json.loads((self._folder / PLAN).read_text())
            if isinstance(plan, dict) and plan.keys() & self._plan.keys():
                return plan
        raise ConfigError(
            f"--out: wanted {self._folder} to be new, empty or of an interrupted run, got a folder with other files; "
            "name another file, or move the folder away"
        )


def _lock(folder: Path) -> int:
    """Lock a folder until the descriptor is closed, however the process ends. Raises InklingError if it is taken."""
    if sys.platform == "win32":  # it has no flock, and cannot open a folder
        return os.open(os.devnull, os.O_RDONLY)
    import fcntl  # not above: Windows has no such module

    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # some network file systems have no locks
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InklingError(f"{folder}: wanted it for this run alone, another process writes there") from error
    return descriptor
