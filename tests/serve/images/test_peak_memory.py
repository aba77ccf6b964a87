"""serve.images: how much memory one image takes at most while it is decoded and prepared, in a process of its own."""

import functools
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from serve.images.decode import estimate_cost
from tests.serve.images.test_decode import PNG_SIGNATURE, chunk
from tests.serve.images.test_decode_bombs import huge_webp
from tests.support import ROOT, encode

SIDE = 2_000
PIXELS = SIDE * SIDE
BYTES_PER_PIXEL = 12
"""What docs/serving/limits.md states, per pixel as admission counts them."""
SLACK_BYTES = 8 * 2**20
"""For the file, tables, and an allocator's rounding."""
ORIENTATION = 0x0112

MEASURE = """
import re, sys
from pathlib import Path
from serve.images.reader import ImageReader, Prepared
from tests.serve.images.policies.test_digit_1 import DIGIT
from tests.serve.images.policies.test_digit_2 import DIGIT as DIGIT_2
from tests.serve.images.policies.test_photo_1 import PHOTO
from serve.images.policies.photo_2 import photo_2

def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

small, large = (Path(name).read_bytes() for name in sys.argv[2:])
policies = {"digit": DIGIT, "digit_2": DIGIT_2, "photo": PHOTO, "photo_2": photo_2(32, 32, margins="frame")}
reader = ImageReader(policies[sys.argv[1]], 50_000_000)
assert isinstance(reader.read(small), Prepared)
before = peak_kb()
assert isinstance(reader.read(large), Prepared)
print(1024 * (peak_kb() - before))
"""


def turned() -> Image.Exif:
    """EXIF that asks for a quarter of a turn, for which the pixels are copied."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return exif


def png(side: int, bits: int, colour: int, channels: int, chunks: bytes = b"") -> bytes:
    """A black PNG of a bit depth and a colour type."""
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + side * channels * bits // 8) * side), 1)
    exif = chunk(b"eXIf", turned().tobytes().removeprefix(b"Exif\0\0"))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunks + exif + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def progressive_cmyk(side: int) -> bytes:
    """A JPEG of four channels whose coefficients are all in memory at once."""
    noise = Image.effect_noise((16, 16), 60).convert("CMYK")
    data = encode(noise, "JPEG", progressive=True, subsampling=0, exif=turned())
    at = data.index(b"\xff\xc2")
    first_scans = b"\xff\xda".join(data.split(b"\xff\xda")[:10])
    return first_scans[: at + 5] + struct.pack(">HH", side, side) + first_scans[at + 9 :] + b"\xff\xd9"


def picture(mode: str, format_name: str, side: int, **options: object) -> bytes:
    return encode(Image.new(mode, (side, side)), format_name, **options)


TRANSPARENT_PALETTE = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))
MAKERS: dict[str, Callable[[int], bytes]] = {
    "png-rgba": functools.partial(png, bits=8, colour=6, channels=4),
    "png-grey-alpha": functools.partial(png, bits=8, colour=4, channels=2),
    "png-grey-16": functools.partial(png, bits=16, colour=0, channels=1, chunks=chunk(b"tRNS", bytes(2))),
    "png-rgba-16": functools.partial(png, bits=16, colour=6, channels=4),
    "png-palette": functools.partial(png, bits=8, colour=3, channels=1, chunks=TRANSPARENT_PALETTE),
    "jpeg": functools.partial(picture, "RGB", "JPEG", exif=turned()),
    "jpeg-cmyk-progressive": progressive_cmyk,
    "gif": functools.partial(picture, "P", "GIF", transparency=0),
    "webp": huge_webp,
    "webp-alpha": functools.partial(picture, "RGBA", "WEBP", exif=turned()),
    "tiff-float": functools.partial(picture, "F", "TIFF"),
    "tiff-rgba": functools.partial(picture, "RGBA", "TIFF", compression="tiff_lzw"),
    "avif": functools.partial(picture, "RGBA", "AVIF"),
    "bmp": functools.partial(picture, "RGB", "BMP"),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see resident memory")
@pytest.mark.parametrize("policy", ["digit", "digit_2", "photo", "photo_2"])
@pytest.mark.parametrize("name", MAKERS)
def test_an_image_takes_at_most_the_stated_memory_a_pixel(name: str, policy: str, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(MAKERS[name](64))
    large.write_bytes(MAKERS[name](SIDE))
    counted = min(estimate_cost(large.read_bytes(), 50_000_000), 2 * PIXELS)
    command = [sys.executable, "-c", MEASURE, policy, str(small), str(large)]
    grown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    least = 0 if name == "jpeg" else PIXELS  # a large JPEG is decoded at a reduced scale
    assert least < int(grown) < BYTES_PER_PIXEL * counted + SLACK_BYTES


def test_the_page_of_limits_states_that_memory() -> None:
    text = (ROOT / "docs/serving/limits.md").read_text()
    assert re.search(rf"\b{BYTES_PER_PIXEL} bytes a pixel", text)
