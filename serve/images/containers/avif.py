"""The bytes of an AVIF file -> the size of its pictures, without decoding.

Enters: the bytes of any file. Leaves: width and height, or an error. Does not know: which size is large, pixels.

The offsets are those of ISO/IEC 14496-12 and 23008-12. A decoder allocates what the AV1 data say, and then scales that
to what the boxes say. So both are read, and have to be the same.
"""

from collections.abc import Iterator

from serve.errors import ImageError, TruncatedImage, UnreadableImage
from serve.images.containers.av1 import read_av1_size
from serve.images.containers.boxes import BOXES_OF_BOXES, MOST_BOXES, Box, boxes_in, number, only, too_many, whole

Size = tuple[int, int]
"""Width and height."""

_BRANDS = (b"avif", b"avis")
_MOST_TABLE_BYTES = 16 * 1024
"""Bytes of a table of items. libavif looks each item up among all of them, and holds the interpreter's lock
meanwhile."""
_MOST_MOVIE_BYTES = 64 * 1024
"""Bytes of the description of the frames, a few thousand. libavif goes through its tables for each frame."""
_MOST_ITEMS = 64
"""Items: pictures and notes about them."""
_MOST_ASSOCIATION_BYTES = 2 * 1024
"""Bytes that say which item has which properties. An image has some twenty."""
_MOST_PICTURES = 8
"""Pictures, or tracks: the picture, its alpha, its thumbnail, and maps of its depth or brightness."""
_TABLES = frozenset({b"iinf", b"iloc", b"iref", b"grpl", b"ipma"})
_IN_FILE, _IN_META = 0, 1
_PLACE_BYTES = (0, 4, 8)


def is_avif(data: bytes) -> bool:
    """Whether a file is of the ISO base media format with AVIF's brand, first or among the compatible ones."""
    return data[4:8] == b"ftyp" and any(brand in data[8 : 8 + min(number(data, 0, 4), 64)] for brand in _BRANDS)


def announced_avif(data: bytes) -> Size | None:
    """The size of an AVIF's largest picture; None if it will be refused."""
    try:
        return read_avif_size(data)
    except ImageError:
        return None


def check_avif(data: bytes) -> None:
    """Raise UnreadableImage for more boxes, items or frames than an image has."""
    boxes, seen = [*boxes_in(data, whole(data))], 0
    while boxes:
        box = boxes.pop()
        seen += 1
        most = _MOST_MOVIE_BYTES if box.kind == b"moov" else _MOST_TABLE_BYTES if box.kind in _TABLES else box.size
        if seen > MOST_BOXES or box.size > most:
            raise too_many()
        if box.kind in BOXES_OF_BOXES:
            boxes += boxes_in(data, box)


def read_avif_size(data: bytes) -> Size:
    """The size of the largest picture in an AVIF, whichever of them a decoder takes. Raises ImageError.

    It is that of the AV1 data, of each picture and of the first frame of each track. A grid of pictures is refused.
    """
    check_avif(data)
    tracks = [box for box in boxes_in(data, only(data, whole(data), b"moov")) if box.kind == b"trak"]
    if len(tracks) > _MOST_PICTURES:
        raise too_many()
    sizes = [*_read_pictures(data, only(data, whole(data), b"meta"))]
    sizes += [size for track in tracks if (size := _read_track(data, track))]
    if not sizes:
        raise UnreadableImage("wanted an AVIF that says where its picture is, got one that does not")
    return max(sizes, key=lambda size: size[0] * size[1])


def _read_pictures(data: bytes, meta: Box | None) -> Iterator[Size]:
    """The size of each picture of a file."""
    kinds = [*_read_kinds(data, only(data, meta, b"iinf"))]
    pictures = {item for item, kind in kinds if kind == b"av01"}
    if any(kind == b"grid" for _, kind in kinds):
        raise UnreadableImage("wanted an AVIF of one picture, got one that is a grid of several")
    announced = _read_announced(data, only(data, meta, b"iprp"))
    places = [(item, place) for item, place in _read_places(data, meta) if item in pictures]
    if len(places) > _MOST_PICTURES:
        raise too_many()
    for item, place in places:
        if place is None:
            raise UnreadableImage("wanted an AVIF whose pictures lie in one piece each, got one in several, or in none")
        yield _read_size(data, *place, announced.get(item, []))


def _read_size(data: bytes, at: int, stop: int, announced: list[Size]) -> Size:
    """The size that AV1 data say, which has to be the announced one."""
    if stop > len(data):
        raise TruncatedImage("wanted a whole image file, got one that ends too early")
    if not announced:
        raise UnreadableImage("wanted an AVIF that announces the size of its pictures, got one that does not")
    width, height = size = read_av1_size(data, at, stop)
    for wide, high in announced:
        if size != (wide, high):
            raise UnreadableImage(
                f"wanted an AVIF that announces the size of its AV1 data, {width} x {height}, got {wide} x {high}"
            )
    return size


def _read_kinds(data: bytes, box: Box | None) -> Iterator[tuple[int, bytes]]:
    """Each item's number and kind."""
    if box is None:
        return
    first = box.start + (8 if number(data, box.start, 1) else 6)
    for seen, entry in enumerate(boxes_in(data, box._replace(start=first))):
        if seen == _MOST_ITEMS:
            raise too_many()
        at, long = entry.start + 4, 4 if number(data, entry.start, 1) > 2 else 2
        yield number(data, at, long), data[at + long + 2 : at + long + 6]


def _read_places(data: bytes, meta: Box | None) -> Iterator[tuple[int, tuple[int, int] | None]]:
    """Each item's number, and where it starts and ends; None if it lies in several pieces, or in no known place."""
    box, inner = only(data, meta, b"iloc"), only(data, meta, b"idat")
    if box is None:
        return
    version, widths, at = number(data, box.start, 1), number(data, box.start + 4, 2), box.start + 6
    offset, length, base, index = (widths >> shift & 15 for shift in (12, 8, 4, 0))
    index = index if version else 0
    if any(width not in _PLACE_BYTES for width in (offset, length, base, index)):
        raise UnreadableImage("wanted an AVIF that gives places in 4 or 8 bytes, got one that does not")
    long = 4 if version > 1 else 2
    count, at = number(data, at, long), at + long
    if count > _MOST_ITEMS:
        raise too_many()
    for _ in range(count):
        item, at = number(data, at, long), at + long
        way, at = (number(data, at, 2) & 15, at + 2) if version else (_IN_FILE, at)
        at += 2  # the file that it is in, which decoders take for this one
        start, pieces, at = number(data, at, base), number(data, at + base, 2), at + base + 2
        start += number(data, at + index, offset)
        size = number(data, at + index + offset, length)
        at += pieces * (index + offset + length)
        if way == _IN_META and inner:
            start += inner.start
        is_known = pieces == 1 and size and (way == _IN_FILE or (way == _IN_META and inner))
        yield item, (start, start + size) if is_known else None


def _read_announced(data: bytes, box: Box | None) -> dict[int, list[Size]]:
    """The sizes that each item's properties announce."""
    sizes = {
        place: (number(data, each.start + 4, 4), number(data, each.start + 8, 4))
        for place, each in enumerate(boxes_in(data, only(data, box, b"ipco")), 1)
        if each.kind == b"ispe"
    }
    tables = [each for each in boxes_in(data, box) if each.kind == b"ipma"]
    if sum(table.size for table in tables) > _MOST_ASSOCIATION_BYTES:
        raise too_many()
    found: dict[int, list[Size]] = {}
    for table in tables:
        for item, place in _read_associations(data, table):
            if place in sizes:
                found.setdefault(item, []).append(sizes[place])
    return found


def _read_associations(data: bytes, table: Box) -> Iterator[tuple[int, int]]:
    """Pairs of an item's number and the place of one of its properties."""
    long = 4 if number(data, table.start, 1) else 2
    short = 2 if number(data, table.start + 3, 1) & 1 else 1
    at, left = table.start + 8, number(data, table.start + 4, 4)
    while at < table.stop and left:
        item, count, at = number(data, at, long), number(data, at + long, 1), at + long + 1
        for place in range(at, at + count * short, short):
            yield item, number(data, place, short) & (1 << 8 * short - 1) - 1
        at += count * short
        left -= 1


def _read_track(data: bytes, track: Box) -> Size | None:
    """The size of a track's first frame; None if it is not of AV1."""
    head, table = only(data, track, b"tkhd"), only(data, track, b"mdia", b"minf", b"stbl")
    codec, sizes = only(data, table, b"stsd"), only(data, table, b"stsz")
    short, long = only(data, table, b"stco"), only(data, table, b"co64")
    if codec is None or b"av01" not in data[codec.start : codec.stop]:
        return None
    if head is None or sizes is None or (short is None) == (long is None):
        raise UnreadableImage("wanted an AVIF that says where its first frame is, got one that does not")
    start = number(data, short.start + 8, 4) if short else number(data, long.start + 8, 8) if long else 0
    size = number(data, sizes.start + 4, 4) or number(data, sizes.start + 12, 4)
    at = head.start + (88 if number(data, head.start, 1) else 76)
    return _read_size(data, start, start + size, [(number(data, at, 4) >> 16, number(data, at + 4, 4) >> 16)])
