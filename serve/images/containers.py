"""The bytes of a TIFF or AVIF file -> what its header announces, without decoding.

Enters: the bytes of any file. Leaves: width and height, or None; the bytes of a TIFF's first page alone.
Does not know: which size is large, error messages, pixels.

The offsets are those of TIFF 6.0 (Adobe 1992), and of ISO/IEC 14496-12 and 23008-12 for AVIF.
"""

from typing import NamedTuple

from serve.errors import UnreadableImage

TIFF_LITTLE, TIFF_BIG = b"II*\0", b"MM\0*"
_AVIF_BRANDS = (b"avif", b"avis")
_HEADER_BYTES = 4096
"""Bytes of an AVIF among which its image sizes are; other boxes before them are few."""
_MOST_TAGS = 200
"""Tags of a TIFF's first page, which Pillow reads one by one in Python. Cameras write about fifty."""
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323
_SHORT, _LONG = 3, 4


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
    """What the first page's tags say. Raises UnreadableImage for more tags than an image has, or none of its size."""
    order = "little" if data.startswith(TIFF_LITTLE) else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]  # one of two texts

    start = number(4, 4)
    count = number(start, 2)
    if count > _MOST_TAGS:
        raise UnreadableImage(f"wanted a TIFF of at most {_MOST_TAGS} tags, got one of {count}")
    values = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        kind = number(at + 2, 2)
        if kind in (_SHORT, _LONG) and number(at + 4, 4) == 1:
            values[number(at, 2)] = number(at + 8, 2 if kind == _SHORT else 4)
    size = values.get(_WIDTH, 0), values.get(_LENGTH, 0)
    if not all(size):
        raise UnreadableImage("wanted a TIFF whose first page has a width and a height, got one without")
    return TiffPage(size, (values.get(_TILE_WIDTH, 0), values.get(_TILE_LENGTH, 0)), start + 2 + 12 * count)


def _box_length(data: bytes) -> int:
    return int.from_bytes(data[:4])
