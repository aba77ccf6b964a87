"""serve.images.decode: a file with very many parts, which Pillow reads one by one, is refused before it does."""

import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.decode import decode
from serve.images.header import count_parts
from tests.serve.images.test_decode import LIMIT, chunk
from tests.support import encode

LIMIT_PARTS = 10_000
PICTURE = Image.new("RGB", (20, 10), (200, 30, 90))
JPEG, PNG = encode(PICTURE, "JPEG"), encode(PICTURE, "PNG")
GIF = encode(PICTURE.convert("P"), "GIF")
GIF_HEADER = GIF[: 13 + (3 << (GIF[10] & 7) + 1) * (GIF[10] >> 7)]
COMMENT, BLOCK, LONG_COMMENT = b"!\xfe\1c\0", b"\1c", b"!\xfe"


def repeat_in_jpeg(part: bytes, count: int) -> bytes:
    return JPEG[:2] + part * count + JPEG[2:]


def repeat_in_png(part: bytes, count: int) -> bytes:
    return PNG[:33] + part * count + PNG[33:]


def repeat_in_gif(part: bytes, count: int) -> bytes:
    return GIF_HEADER + part * count + GIF[len(GIF_HEADER) :]


def lengthen_gif(part: bytes, count: int) -> bytes:
    """One comment of `count` blocks."""
    return GIF_HEADER + LONG_COMMENT + part * count + b"\0" + GIF[len(GIF_HEADER) :]


def repeat_after_an_empty_block(part: bytes, count: int) -> bytes:
    """The parts follow a block that looks like a frame, in an extension whose empty first block ends nothing."""
    return repeat_in_gif(b"!\xf9\0," + bytes(44) + b"\0" + part * count, 1)


# A function, the bytes that it repeats, and the number of parts in these.
REPEATED = {
    "jpeg-comments": (repeat_in_jpeg, b"\xff\xfe\0\2", 1),
    "jpeg-segments": (repeat_in_jpeg, b"\xff\xe5\0\7hello", 1),
    "jpeg-fill": (repeat_in_jpeg, b"\xff", 1),
    "jpeg-stray-markers": (repeat_in_jpeg, b"\xff\0", 1),
    "jpeg-bare": (repeat_in_jpeg, b"\xff\xd0", 1),
    "jpeg-between": (repeat_in_jpeg, b"\xff\xfe\0\2ab", 3),
    "png-chunks": (repeat_in_png, chunk(b"teSt", b"hello"), 1),
    "png-pixels": (repeat_in_png, chunk(b"IDAT", b""), 1),
    "gif-comments": (repeat_in_gif, COMMENT, 2),
    "gif-blocks": (lengthen_gif, BLOCK, 1),
    "gif-between": (repeat_in_gif, b"\0", 1),
    "gif-after-an-empty-block": (repeat_after_an_empty_block, COMMENT, 2),
    "gif-of-empty-blocks": (repeat_in_gif, b"!\xf9\0\0", 2),
    "gif-between-comments": (repeat_in_gif, b"\0" + COMMENT, 3),
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_file_of_more_parts_than_the_limit_is_refused(name: str) -> None:
    make, part, parts_each = REPEATED[name]
    others = count_parts(make(part, 0), LIMIT_PARTS)
    fitting = (LIMIT_PARTS - others) // parts_each
    assert count_parts(make(part, fitting), LIMIT_PARTS) == others + parts_each * fitting <= LIMIT_PARTS
    assert decode(make(part, fitting), LIMIT).size == PICTURE.size
    with pytest.raises(UnreadableImage, match="wanted a file of at most 10,000 segments, chunks or blocks, got one of"):
        decode(make(part, fitting + 1), LIMIT)


@pytest.mark.parametrize("name", REPEATED)
def test_parts_are_counted_to_one_more_than_the_limit(name: str) -> None:
    make, part, _ = REPEATED[name]
    assert count_parts(make(part, 1_000), 30) == 31


@pytest.mark.parametrize("name", REPEATED)
def test_the_parts_of_a_file_that_ends_anywhere_are_counted(name: str) -> None:
    make, part, _ = REPEATED[name]
    data = make(part, 3)
    for length in range(len(data)):
        assert count_parts(data[:length], LIMIT_PARTS) <= length


def test_markers_after_the_scan_of_a_jpeg_do_not_count() -> None:
    """The decoder reads them, which is not written in Python. Most bytes of a photo are there."""
    assert decode(JPEG + b"\xff\xfe\0\2" * 2 * LIMIT_PARTS, LIMIT).size == PICTURE.size


@pytest.mark.parametrize("format_name", ["WEBP", "BMP"])
def test_other_formats_have_no_parts_that_count(format_name: str) -> None:
    assert count_parts(encode(PICTURE, format_name), LIMIT_PARTS) == 0
