"""The bytes of a TIFF file -> what its header announces, without decoding.

Enters: the bytes of any file. Leaves: width and height, or None; the bytes of the first page alone.
Does not know: which size is large, error messages, pixels.

The offsets are those of TIFF 6.0 (Adobe 1992).
"""

from typing import NamedTuple

from serve.errors import UnreadableImage

TIFF_LITTLE, TIFF_BIG = b"II*\0", b"MM\0*"
_MOST_TAGS = 200
"""Tags of a TIFF's first page, which Pillow reads one by one in Python. Cameras write about fifty."""
_MOST_VALUES = 20_000
"""Values of a tag, such as the places of strips, which Pillow unpacks one by one in Python. Bytes and texts are not."""
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
