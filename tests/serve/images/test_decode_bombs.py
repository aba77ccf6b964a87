"""serve.images.decode: a small file that takes much memory or time is refused before either is taken."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from serve.errors import UnreadableImage
from serve.images.decode import decode
from tests.serve.images.test_decode import LIMIT, PNG_SIGNATURE, chunk, draw, idat, ihdr
from tests.support import encode


def huge_png() -> bytes:
    """50,000 x 50,000 pixels announced in about two kilobytes."""
    return PNG_SIGNATURE + ihdr(50_000, 50_000) + idat(1_000, 2_000) + chunk(b"IEND", b"")


def huge_webp(side: int) -> bytes:
    """A valid lossless WebP of one colour: its data need no bit per pixel, so only the sizes in its header change."""
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
    """A GIF that announces a screen of `side` x `side`, and wants it cleared behind its one frame."""
    data = bytearray(encode(Image.new("P", (64, 64)), "GIF", disposal=2, save_all=True))
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


def wide_gif(side: int) -> bytes:
    """The same with a screen of one pixel, and a frame of `side` x `side`."""
    data = bytearray(tall_gif(1))
    frame = data.index(b",", 13)
    data[frame + 5 : frame + 9] = struct.pack("<HH", side, side)
    return bytes(data)


def veiled_gif(side: int) -> bytes:
    """The same behind blocks that look like a frame and like the end; an empty block before them ends nothing."""
    data = wide_gif(side)
    start = 13 + (3 << (data[10] & 7) + 1) * (data[10] >> 7)
    veil = b"!\xf9\0," + bytes(44) + b"\0" + b"!\1\0;" + bytes(59) + b"\0"
    return data[:start] + veil + data[start:]


def rescanned_jpeg(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, `scans` in all."""
    whole = encode(draw(), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (scans - whole.count(b"\xff\xda")) + whole[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    """Each scan goes over all pixels again: a megabyte of them would take minutes."""
    assert decode(rescanned_jpeg(100), LIMIT).size == draw().size
    with pytest.raises(UnreadableImage, match="wanted a JPEG of at most 100 scans, got one of 101"):
        decode(rescanned_jpeg(101), LIMIT)


BOMBS = {
    "png": huge_png(),
    "gif-under-pillows-own-limit": tall_gif(13_300),
    "gif-frame-under-pillows-own-limit": wide_gif(13_300),
    "gif-veiled": veiled_gif(13_300),
    "webp-under-pillows-own-limit": huge_webp(13_000),
    "webp": huge_webp(16_383),
    "gif": huge_gif(),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_announces_a_huge_image_is_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    """In a process of its own, whose largest resident memory the kernel notes."""
    assert len(BOMBS[name]) < 3_000
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc to see resident memory")
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


def test_the_huge_webp_is_a_real_one() -> None:
    """With a size within the limit the same bytes decode, so it is the limit that refuses them."""
    image = decode(huge_webp(900), LIMIT)
    assert image.size == (900, 900)
    assert image.convert("RGB").getcolors() == [(810_000, (200, 0, 0))]
