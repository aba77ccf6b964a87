"""`serving.toml` beside a model.onnx: how this one version is served, where that differs from the server's flags.

Enters: the path of the file. Leaves: checked `ServingSettings`, or ModelFileError. Does not know: what a setting does.
The file belongs to whoever runs the server, not to the model: no seal covers it, and an export never writes it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from serve.errors import ModelFileError, quote_value

FILE_NAME = "serving.toml"
LARGEST_FILE = 64 * 1024
"""Bytes."""
PRECISIONS = ("float32", "float16", "int8")
_BOUNDS = {
    "max_batch": (1, 65_536),
    "max_pending": (1, 2**31 - 1),
    "max_pending_bytes": (1, 2**31 - 1),
    "max_queue_delay_us": (0, 10_000_000),
}
"""Least and most of each number: those of the server's flags of the same names."""


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """The settings of one version; None leaves the server's."""

    precision: str | None = None
    """The file of this precision is run, if it exists."""
    max_batch: int | None = None
    """Most images in one run."""
    max_pending: int | None = None
    """Images that wait or run in a worker."""
    max_pending_bytes: int | None = None
    """Bytes of their files."""
    max_queue_delay_us: int | None = None
    """Microseconds that a batch waits to fill."""


SERVER_SETTINGS = ServingSettings()
"""What holds without a file: the server's flags."""


def read_serving(path: Path) -> ServingSettings:
    """Read and check the file. Raises ModelFileError, which names the key."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ModelFileError(f"{FILE_NAME}: wanted at most {LARGEST_FILE:,} bytes, got more")
        values = tomllib.loads(data.decode())
    except OSError as error:
        raise ModelFileError(f"{FILE_NAME}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # bytes that are no text, or a text that is not TOML
        raise ModelFileError(f"{FILE_NAME}: wanted TOML: {error}") from error
    except RecursionError:
        raise ModelFileError(f"{FILE_NAME}: wanted TOML, got lists or tables in each other, too deep to read") from None
    return check_serving(values)


def check_serving(values: Mapping[str, Any]) -> ServingSettings:
    """Settings from the values of a file. Raises ModelFileError."""
    known = [field.name for field in fields(ServingSettings)]
    if unknown := sorted(values.keys() - known):
        raise ModelFileError(f"{FILE_NAME}: unknown keys: {', '.join(unknown)}; wanted some of {', '.join(known)}")
    precision = values.get("precision")
    if precision is not None and precision not in PRECISIONS:
        raise ModelFileError(
            f"{FILE_NAME}: precision: wanted one of {', '.join(PRECISIONS)}; got {quote_value(precision)}"
        )
    for name, (least, most) in _BOUNDS.items():
        value = values.get(name, least)
        if type(value) is not int or not least <= value <= most:  # a Boolean is an int to isinstance
            raise ModelFileError(
                f"{FILE_NAME}: {name}: wanted a whole number from {least} to {most}; got {quote_value(value)}"
            )
    return ServingSettings(**values)
