"""Finished runs of a study <-> a file with one line of JSON for each.

Enters: a path, a `Run`. Leaves: the same. Does not know: Keras, how a run is trained, what follows from it.
A line counts when it has its end. The rest of a line that a killed process left is cut off, and the run is repeated.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from serve.errors import InklingError


class BadResults(InklingError):
    """A file of results has a line that is no run."""


@dataclass(frozen=True)
class Run:
    """A finished run: what was trained, and its figures."""

    study: str
    dataset: str
    value: float | str
    seed: int
    settings: dict[str, Any]
    """All that determines a run except its seed, as JSON values. Older runs have more (`plan.select_decisive`)."""
    parameters: int
    epochs: int
    """Epochs, with those of pretraining."""
    validation_accuracy: float
    """Accuracy on the held-out images, which chose nothing, after the last epoch and the balance of the classes."""
    train_accuracy: float
    """Accuracy in the last epoch of training, on augmented images and with dropout."""
    seconds: float
    """Duration of all epochs."""
    date: str
    """Time of its end, ISO 8601 in UTC."""
    versions: dict[str, str]


def read_runs(path: Path) -> list[Run]:
    """All finished runs of a file that may be absent. Raises BadResults."""
    lines, _ = _split_lines(path)
    return [_parse(line, number, path) for number, line in enumerate(lines, 1)]


def _parse(line: bytes, number: int, path: Path) -> Run:
    try:
        found = json.loads(line)
        return Run(**{field.name: found[field.name] for field in fields(Run)})
    except (ValueError, KeyError, TypeError) as error:
        raise BadResults(
            f"{path}, line {number}: wanted a run as JSON, found {line[:60]!r} ({error!r}); repair or remove it"
        ) from error


def append_run(path: Path, run: Run) -> None:
    """Add a line, and return when it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(json.dumps(asdict(run)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def cut_torn_line(path: Path) -> bool:
    """Remove a last line without an end, in one step. Returns whether there was one."""
    lines, torn = _split_lines(path)
    if not torn:
        return False
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(b"".join(line + b"\n" for line in lines))
    partial.replace(path)
    return True


def _split_lines(path: Path) -> tuple[Sequence[bytes], bytes]:
    """The lines that have an end, and the rest after them."""
    *lines, torn = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return lines, torn
