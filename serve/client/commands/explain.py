"""The pictures on the way from an image to the network's input -> files in a folder.

Enters: a folder, an image's name, the steps of its answer. Leaves: PNG files. Does not know: calls, servers.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from serve.client.messages import Step
from serve.errors import CallError, ConfigError

_OTHERS = re.compile(r"[^\w.-]+")
"""Characters that a file's name does not keep: separators, and what shells and terminals would obey."""
_LONGEST_NAME = 150


def make_folder(folder: Path) -> None:
    """Make the folder if it is absent. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--explain: wanted a folder that can be written, got {folder}: {error.strerror}") from error


def write_steps(folder: Path, name: str, steps: Sequence[Step]) -> None:
    """Write the steps of one image as `NAME-1-levels.png` and so on, in order. Raises CallError."""
    stem = _OTHERS.sub("_", name).strip("_.")[-_LONGEST_NAME:] or "image"
    for number, step in enumerate(steps, 1):
        step_name = _OTHERS.sub("_", step.name)[:_LONGEST_NAME]
        file = folder / f"{stem}-{number}-{step_name}.png"
        try:
            file.write_bytes(step.png)
        except OSError as error:
            raise CallError("INTERNAL", "NOT_WRITTEN", f"--explain: cannot write {file}: {error.strerror}") from error
