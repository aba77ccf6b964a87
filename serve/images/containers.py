"""The bytes of a TIFF or AVIF file -> what its header announces, without decoding.

Enters: the bytes of any file. Leaves: width and height, or None; the bytes of a TIFF's first page alone.
Does not know: which size is large, error messages, pixels.

The offsets are those of TIFF 6.0 (Adobe 1992), and of ISO/IEC 14496-12 and 23008-12 for AVIF.
"""

from collections.abc import Iterator
from typing import NamedTuple

from serve.errors import UnreadableImage

TIFF_LITTLE, TIFF_BIG = b"II*\0", b"MM\0*"
_AVIF_BRANDS = (b"avif", b"avis")
_HEADER_BYTES = 4096
"""Bytes of an AVIF among which its image sizes are; other boxes before them are few."""
_MOST_TAGS = 200
"""Tags of a TIFF's first page, which Pillow reads one by one in Python. Cameras write about fifty."""
_MOST_VALUES = 20_000
"""Values of a tag, such as the places of strips, which Pillow unpacks one by one in Python. Bytes and texts are not."""
_MOST_BOXES = 2_000
"""Boxes of an AVIF that are walked over."""
_MOST_TABLE_BYTES = 16 * 1024
"""Bytes of a table of an AVIF's items: several hundred tiles. libavif looks each item up among all of them, and holds
the interpreter's lock meanwhile."""
_MOST_MOVIE_BYTES = 64 * 1024
"""Bytes of the description of an AVIF's frames, a few thousand. libavif goes through its tables for each frame."""
_ITEM_TABLES = frozenset({b"iinf", b"iloc", b"iref", b"grpl", b"ipma"})
_BOXES_OF_BOXES = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0}
"""Boxes that hold others, with the number of bytes before the first of those."""
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323
_SHORT, _LONG = 3, 4
_BYTES, _ASCII, _UNDEFINED = 1, 2, 7


class TiffPage(NamedTuple):
    """The first page of a TIFF."""

    size: tuple[int, int]
    """Width and height."""
    tile: tuple[int, int]
    """Width and height of one tile, (0, 0) without tiles. A decoder has a whole tile in memory."""
    next_at: int
    """Where the place of the next page stands."""


def is_avif(data: bytes) -> bool:
    """Whether a file is of the ISO base media format with AVIF's brand, first or among the compatible ones."""
    return data[4:8] == b"ftyp" and any(brand in data[8 : 8 + min(_box_length(data), 64)] for brand in _AVIF_BRANDS)


def announced_avif(data: bytes) -> tuple[int, int] | None:
    """The largest size that the properties of an AVIF's images announce."""
    head, sizes, at = data[:_HEADER_BYTES], [], 0
    while (at := head.find(b"ispe", at) + 1) > 0:
        width, height = head[at + 7 : at + 11], head[at + 11 : at + 15]
        sizes.append((int.from_bytes(width), int.from_bytes(height)))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def check_avif(data: bytes) -> None:
    """Raise UnreadableImage for more boxes, items or frames than an image has."""
    for seen, (kind, size) in enumerate(_walk(data, 0, len(data))):
        most = _MOST_MOVIE_BYTES if kind == b"moov" else _MOST_TABLE_BYTES if kind in _ITEM_TABLES else size
        if seen >= _MOST_BOXES or size > most:
            raise UnreadableImage("wanted an AVIF of one image, got one of very many boxes, items or frames")


def _walk(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int]]:
    """The kind of each box and its number of bytes, those in other boxes after these."""
    while at + 8 <= stop:
        length, kind, start = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = int.from_bytes(data[at + 8 : at + 16]), at + 16
        end = min(at + length, stop) if length else stop
        if end < start:
            return
        yield kind, end - at
        if kind in _BOXES_OF_BOXES:
            yield from _walk(data, start + _BOXES_OF_BOXES[kind], end)
        at = end


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF of either byte order does. BigTIFF is another format."""
    return data.startswith((TIFF_LITTLE, TIFF_BIG))


def announced_tiff(data: bytes) -> tuple[int, int] | None:
    """Width and height of the first page; None if its tags do not say."""
    try:
        return read_tiff_page(data).size
    except UnreadableImage:
        return None


def first_page(data: bytes) -> bytes:
    """The file without its other pages, which Pillow would look for, too. Raises UnreadableImage."""
    at = read_tiff_page(data).next_at
    return data[:at] + bytes(4) + data[at + 4 :]


def read_tiff_page(data: bytes) -> TiffPage:
    """What the first page's tags say. Raises UnreadableImage for more tags than an image has, or none of its size.

    Pillow takes the first of two tags alike, other decoders another, so that one size of tiles is asked for.
    """
    order = "little" if data.startswith(TIFF_LITTLE) else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]  # one of two texts

    start = number(4, 4)
    count = number(start, 2)
    if count > _MOST_TAGS:
        raise UnreadableImage(f"wanted a TIFF of at most {_MOST_TAGS} tags, got one of {count}")
    values = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length = number(at, 2), number(at + 2, 2), number(at + 4, 4)
        if kind not in (_BYTES, _ASCII, _UNDEFINED) and length > _MOST_VALUES:
            raise UnreadableImage(f"wanted a TIFF whose tags have at most {_MOST_VALUES:,} values, got {length:,}")
        is_number = kind in (_SHORT, _LONG) and length == 1
        if tag in (_TILE_WIDTH, _TILE_LENGTH) and (tag in values or not is_number):
            raise UnreadableImage("wanted a TIFF that gives the size of its tiles once, as a whole number")
        if is_number:
            values[tag] = number(at + 8, 2 if kind == _SHORT else 4)
    size = values.get(_WIDTH, 0), values.get(_LENGTH, 0)
    if not all(size):
        raise UnreadableImage("wanted a TIFF whose first page has a width and a height, got one without")
    return TiffPage(size, (values.get(_TILE_WIDTH, 0), values.get(_TILE_LENGTH, 0)), start + 2 + 12 * count)


def _box_length(data: bytes) -> int:
    return int.from_bytes(data[:4])
