"""The boxes of an ISO base media file, in bounded time.

Enters: bytes, and where in them boxes lie. Leaves: boxes. Does not know: what is in a box that holds no others.

The offsets are those of ISO/IEC 14496-12.
"""

from collections.abc import Iterator
from typing import NamedTuple

from serve.errors import UnreadableImage

MOST_BOXES = 500
"""Boxes that are walked over, in each other and after each other. An image has some fifty."""
BOXES_OF_BOXES = {b"meta": 4, b"iprp": 0, b"ipco": 0} | dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl"), 0)
"""Boxes that hold others, with the number of bytes before the first of those."""


class Box(NamedTuple):
    """Where a box lies."""

    kind: bytes
    start: int
    """Where its content starts: after its length and kind, or with the first of the boxes in it."""
    stop: int
    size: int
    """With its length and kind."""


def boxes_in(data: bytes, box: Box | None) -> Iterator[Box]:
    """The boxes in a box, not those in these; none in None. Raises UnreadableImage for very many."""
    at, stop = (box.start, box.stop) if box else (0, 0)
    seen = 0
    while at + 8 <= stop:
        length, kind, start = number(data, at, 4), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = number(data, at + 8, 8), at + 16
        end = min(at + length, stop) if length else stop
        seen += 1
        if seen > MOST_BOXES:
            raise too_many()
        if end < start:
            return
        yield Box(kind, start + BOXES_OF_BOXES.get(kind, 0), end, end - at)
        at = end


def only(data: bytes, box: Box | None, *kinds: bytes) -> Box | None:
    """The one box of these kinds, each in the one before; None if there is none. Raises UnreadableImage for several."""
    for kind in kinds:
        found = [each for each in boxes_in(data, box) if each.kind == kind]
        if len(found) > 1:
            name = kind.decode("ascii")
            raise UnreadableImage(f"wanted an AVIF with one box {name} in another, got one with {len(found)}")
        box = found[0] if found else None
    return box


def whole(data: bytes) -> Box:
    """A file as a box of its boxes."""
    return Box(b"", 0, len(data), len(data))


def number(data: bytes, at: int, size: int) -> int:
    """The number in `size` bytes. Those after the end of the file count as if they were not there."""
    return int.from_bytes(data[at : at + size])


def too_many() -> UnreadableImage:
    """The error of a file that is more than one image."""
    return UnreadableImage("wanted an AVIF of one image, got one of very many boxes, items or frames")
