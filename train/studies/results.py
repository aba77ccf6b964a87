"""Finished runs of a study <-> a file with one line of JSON for each.

Enters: a path, a `Run`. Leaves: the same. Does not know: Keras, how a run is trained, what is concluded of it.
A line counts once it ends: what a killed process left of one is cut off, and that run is done again.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from serve.errors import InklingError


class BadResults(InklingError):
    """A file of results that something else has written to."""


@dataclass(frozen=True)
class Run:
    """One finished run: what was trained, and what came of it."""

    study: str
    dataset: str
    value: float | str
    seed: int
    settings: dict[str, Any]
    """All that decides a run but its seed, as JSON has it; older runs have more (`study_plan.select_decisive`)."""
    parameters: int
    epochs: int
    """All of them, those of pretraining too."""
    validation_accuracy: float
    """After the last epoch, classes balanced where training saw augmented images alone: the held-out images had no part
    in choosing anything."""
    train_accuracy: float
    """In the last epoch, while it trained: of augmented images, under dropout."""
    seconds: float
    """Of all epochs."""
    date: str
    """When it was finished, ISO 8601 in UTC."""
    versions: dict[str, str]


def read_runs(path: Path) -> list[Run]:
    """Every finished run in the file, which need not exist. Raises BadResults."""
    lines, _ = _split_lines(path)
    return [_parse(line, number, path) for number, line in enumerate(lines, 1)]


def _parse(line: bytes, number: int, path: Path) -> Run:
    try:
        found = json.loads(line)
        return Run(**{field.name: found[field.name] for field in fields(Run)})
    except (ValueError, KeyError, TypeError) as error:
        raise BadResults(
            f"{path}, line {number}: wanted a run as JSON, found {line[:60]!r} ({error!r}); mend or remove it"
        ) from error


def append_run(path: Path, run: Run) -> None:
    """Add a line, and return when it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(json.dumps(asdict(run)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def cut_torn_line(path: Path) -> bool:
    """Remove the beginning of a line that was never ended, in one step; whether there was one."""
    lines, torn = _split_lines(path)
    if not torn:
        return False
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(b"".join(line + b"\n" for line in lines))
    partial.replace(path)
    return True


def _split_lines(path: Path) -> tuple[Sequence[bytes], bytes]:
    """The lines that end, and what stands behind the last end."""
    *lines, torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return lines, torn
