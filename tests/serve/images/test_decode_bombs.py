"""serve.images.decode: a small file that would take much memory or time is refused before it does."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.decode import decode, estimate_cost
from tests.serve.images.test_decode import LIMIT, PNG_SIGNATURE, chunk, draw, idat, ihdr
from tests.support import encode


def huge_png() -> bytes:
    """A PNG of about two kilobytes that announces 50,000 x 50,000 pixels."""
    return PNG_SIGNATURE + ihdr(50_000, 50_000) + idat(1_000, 2_000) + chunk(b"IEND", b"")


def huge_webp(side: int) -> bytes:
    """A valid lossless WebP of one colour. Its data need no bits per pixel, so only the sizes in its header change."""
    data = bytearray(encode(Image.new("RGB", (16, 16), (200, 0, 0)), "WEBP"))
    bits = int.from_bytes(data[21:25], "little") & ~0xFFFFFFF
    data[21:25] = (bits | (side - 1) << 14 | (side - 1)).to_bytes(4, "little")
    return bytes(data)


def huge_gif() -> bytes:
    """A GIF whose screen is one pixel and whose first frame announces 65,535 x 65,535."""
    data = bytearray(encode(Image.new("P", (64, 64)), "GIF"))
    frame = data.index(b",", 13)
    data[6:10] = struct.pack("<HH", 1, 1)
    data[frame + 5 : frame + 9] = struct.pack("<HH", 65_535, 65_535)
    return bytes(data)


def tall_gif(side: int) -> bytes:
    """A GIF that announces a screen of `side` x `side`, and that disposes its only frame to the background."""
    data = bytearray(encode(Image.new("P", (64, 64)), "GIF", disposal=2, save_all=True))
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


def wide_gif(side: int) -> bytes:
    """The same GIF with a screen of one pixel and a frame of `side` x `side`."""
    data = bytearray(tall_gif(1))
    frame = data.index(b",", 13)
    data[frame + 5 : frame + 9] = struct.pack("<HH", side, side)
    return bytes(data)


def disguised_gif(side: int) -> bytes:
    """The same GIF after blocks that look like a frame and like the end. The empty block before them ends nothing."""
    data = wide_gif(side)
    start = 13 + (3 << (data[10] & 7) + 1) * (data[10] >> 7)
    blocks = b"!\xf9\0," + bytes(44) + b"\0" + b"!\1\0;" + bytes(59) + b"\0"
    return data[:start] + blocks + data[start:]


def rescanned_jpeg(scans: int) -> bytes:
    """A progressive JPEG of `scans` scans, which repeats its last scan."""
    whole = encode(draw(), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (scans - whole.count(b"\xff\xda")) + whole[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    """Each scan passes over all pixels again, so a megabyte of scans would take minutes."""
    assert decode(rescanned_jpeg(100), LIMIT).size == draw().size
    with pytest.raises(UnreadableImage, match="wanted a JPEG of at most 100 scans, got one of 101"):
        decode(rescanned_jpeg(101), LIMIT)


def test_a_jpeg_of_many_pixels_may_have_fewer_scans() -> None:
    """50 million pixels in 16 scans are 800 million, which take seconds; it is refused by its header."""
    data = rescanned_jpeg(16)
    frame = data.index(b"\xff\xc2")
    data = data[: frame + 5] + struct.pack(">HH", 7_071, 7_071) + data[frame + 9 :]
    with pytest.raises(UnreadableImage, match="at most 750,000,000, got 7071 x 7071 in 16 scans"):
        decode(data, 50_000_000)


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        *((encode(Image.new("RGB", (50, 20)), name), 1_000) for name in ("PNG", "GIF", "BMP", "JPEG")),
        (encode(Image.new("RGB", (50, 20)), "WEBP"), 2_000),
        *((rescanned_jpeg(scans), (1 + scans // 10) * draw().width * draw().height) for scans in (10, 19, 20)),
        (encode(Image.new("RGB", (500, 200))), 100_000),
        (encode(Image.new("RGB", (500, 201))), 0),
        (encode(Image.new("1", (65_535, 1))), 65_535),
        (encode(Image.new("1", (65_536, 1))), 0),
        (b"\xff\xd8\xff\xe0", 100_000),
        (b"RIFF\0\0\0\0WEBPnone", 200_000),
        (b"text", 0),
        (b"", 0),
    ],
)
def test_the_cost_of_an_image_is_known_by_its_header(data: bytes, cost: int) -> None:
    """Its pixels, once more for each ten scans, and twice for a WebP; all that may be if the header does not tell."""
    assert estimate_cost(data, 100_000) == cost


BOMBS = {
    "png": huge_png(),
    "gif-under-pillows-own-limit": tall_gif(13_300),
    "gif-frame-under-pillows-own-limit": wide_gif(13_300),
    "gif-disguised": disguised_gif(13_300),
    "webp-under-pillows-own-limit": huge_webp(13_000),
    "webp": huge_webp(16_383),
    "gif": huge_gif(),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_announces_a_huge_image_takes_no_memory(name: str, tmp_path: Path) -> None:
    """A process of its own, because the kernel records the peak of its resident memory."""
    assert len(BOMBS[name]) < 3_000
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc to read resident memory")
    (tmp_path / "bomb").write_bytes(BOMBS[name])
    format_name = name.split("-", maxsplit=1)[0]
    (tmp_path / "small").write_bytes(huge_webp(30) if format_name == "webp" else encode(draw(), format_name))
    script = """
import re, sys
from pathlib import Path
from serve.images.decode import decode, is_large
from serve.errors import ImageTooLarge
def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
bomb, small = (Path(name).read_bytes() for name in sys.argv[1:])
decode(small, 50_000_000)
before = peak_kb()
is_large(bomb)
try:
    decode(bomb, 50_000_000)
except ImageTooLarge:
    print(peak_kb() - before)
"""
    command = [sys.executable, "-c", script, tmp_path / "bomb", tmp_path / "small"]
    grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(grown) < 4_000


def test_the_huge_webp_is_valid() -> None:
    """The same bytes are decoded with a size within the limit, so it is the limit that refuses them."""
    image = decode(huge_webp(900), LIMIT, detail=900)
    assert image.size == (900, 900)
    assert image.convert("RGB").getcolors() == [(810_000, (200, 0, 0))]
