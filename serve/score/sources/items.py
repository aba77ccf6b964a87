"""Images by name, the bytes of a file, and the error of a damaged input.

Enters: a file's name. Leaves: `Item`s and `Source`s, and bytes or the error that a row gets. Does not know: models,
results, archives and tables.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from serve.errors import ImageTooLarge, InklingError

MOST_FILE_BYTES = 256 * 2**20
"""Bytes of an image file. A larger one becomes a row with an error, and is not read."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image by its name."""

    name: str
    """Its path; in an archive the name there, in a table the path column or the row's number."""
    load: Callable[[], bytes | Exception] | None = None
    """Gives its bytes at once, before the next item; None if `name` is a file that anybody can read at any time."""


@dataclass(frozen=True, slots=True)
class Source:
    """Images in order."""

    kind: str
    items: Callable[[], Iterator[Item]]
    count: Callable[[], int | None]
    """Their number, or None if only reading all of them tells."""


def read_file(name: str) -> bytes | Exception:
    """The bytes of an image file, or the error that its row gets."""
    try:
        # A FIFO without a writer would make a blocking open wait for ever.
        with open(name, "rb", opener=_open_at_once) as file:
            data = file.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: the name has a null character
        return error if isinstance(error, OSError) else OSError(0, str(error))
    if len(data) > MOST_FILE_BYTES:
        return ImageTooLarge(f"wanted a file of at most {MOST_FILE_BYTES:,} bytes, got a larger one")
    return data


def _open_at_once(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def damaged(place: str, kind: str, error: Exception) -> InklingError:
    """The error of an input that cannot be read to its end."""
    return InklingError(f"{place}: wanted a whole {kind} file, got one that cannot be read on: {error}")
