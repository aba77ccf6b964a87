"""serve.images.containers: a TIFF or AVIF whose tables would cost its decoder much is refused before it is opened."""

import struct

import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.containers.avif import check_avif
from serve.images.decode import decode
from tests.serve.images.test_decode import LIMIT
from tests.support import encode

HUGE = 40_000
BIG_TILE, SMALL_TILE = ((322, 4, 1, HUGE), (323, 4, 1, HUGE)), ((322, 4, 1, 16), (323, 4, 1, 16))


def make_tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of 64 x 64 grey pixels, compressed by LZW, with these tags (number, kind, count, value), too."""
    common = ((256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1), (277, 3, 1, 1))
    found = (*common, *tags)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(found))
    return head + b"".join(struct.pack("<HHII", *tag) for tag in found) + bytes(200_000)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def make_avif(*boxes: bytes) -> bytes:
    return box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + b"".join(boxes)


@pytest.mark.parametrize(
    "tags",
    [
        (*BIG_TILE, *SMALL_TILE),
        (*SMALL_TILE, *BIG_TILE),
        ((322, 9, 1, HUGE), (323, 9, 1, HUGE)),
        ((322, 16, 1, 400), (323, 16, 1, 400)),
    ],
    ids=["first", "last", "signed", "elsewhere"],
)
def test_a_tile_size_that_decoders_read_differently_is_refused(tags: tuple[tuple[int, int, int, int], ...]) -> None:
    with pytest.raises(UnreadableImage, match="size of its tiles once"):
        decode(make_tiff(*tags, (324, 4, 1, 8), (325, 4, 1, 4000)), LIMIT)


@pytest.mark.parametrize(("tag", "kind"), [(273, 4), (282, 5), (258, 3)], ids=["strips", "resolution", "bits"])
def test_a_tiff_with_very_many_values_in_a_tag_is_refused(tag: int, kind: int) -> None:
    with pytest.raises(UnreadableImage, match="at most 20,000 values"):
        decode(make_tiff((tag, kind, 20_001, 8)), LIMIT)


@pytest.mark.parametrize(
    "boxes",
    [
        [box(b"meta", bytes(4) + box(b"iinf", bytes(16_400)))],
        [box(b"meta", bytes(4) + box(b"iloc", bytes(16_400)))],
        [box(b"meta", bytes(4) + box(b"iprp", box(b"ipma", bytes(16_400))))],
        [box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"free", b"") * 2_000)))],
        [struct.pack(">I4sQ", 1, b"meta", 20_000) + bytes(4) + box(b"iref", bytes(16_400))],
        [b"\0\0\0\0meta" + bytes(4) + box(b"iloc", bytes(16_400))],
        [box(b"moov", bytes(65_600))],
        [box(b"moov", box(b"trak", box(b"meta", bytes(4) + box(b"iloc", bytes(16_400)))))],
        [box(b"free", b"")] * 2_000,
    ],
    ids=["items", "places", "associations", "properties", "long", "to the end", "frames", "track", "boxes"],
)
def test_an_avif_with_very_large_tables_is_refused(boxes: list[bytes]) -> None:
    with pytest.raises(UnreadableImage, match="of very many"):
        decode(make_avif(*boxes), LIMIT)


def test_an_ordinary_avif_passes_with_large_contents_beside_its_tables() -> None:
    frames = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in range(0, 250, 10)]
    check_avif(encode(frames[0], "AVIF", save_all=True, append_images=frames[1:]))
    check_avif(encode(frames[0], "AVIF", exif=b"Exif\0\0II*\0\10\0\0\0" + bytes(50_000), icc_profile=bytes(100_000)))
    check_avif(make_avif(box(b"meta", bytes(4) + box(b"idat", bytes(10**6))), box(b"mdat", bytes(10**6))))
