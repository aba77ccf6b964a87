"""Small files that announce many pixels, each within the limits or just beyond them."""

import struct
import zlib

from PIL import Image

from tests.serve.images.test_decode import PNG_SIGNATURE, chunk
from tests.serve.images.test_decode_bombs import huge_webp, tall_gif
from tests.support import encode

SIDE = 7_071
"""Pixels. A square of it is just within the 50 million that an image may have."""
_FRAMES = (b"\xff\xc0", b"\xff\xc2")


def jpeg(side: int, scans: int = 0, progressive: bool = True) -> bytes:
    """A JPEG of 16 x 16 that announces another size; its last scan comes again until there are `scans`."""
    data = encode(Image.effect_noise((16, 16), 60).convert("RGB"), "JPEG", progressive=progressive)
    at = max(data.find(frame) for frame in _FRAMES)
    data = data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :]
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * max(0, scans - data.count(b"\xff\xda")) + data[-2:]


def tall_png(height: int, width: int = 1) -> bytes:
    """A valid, wholly transparent RGBA PNG."""
    packer, row = zlib.compressobj(9), bytes(1 + 4 * width)
    rows = max(1, 50_000 // len(row))
    parts = [packer.compress(row * min(rows, height - at)) for at in range(0, height, rows)]
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    pixels = b"".join(parts) + packer.flush()
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """What costs most within the limits, by kind."""
    return {
        "progressive": jpeg(SIDE),
        "scans": jpeg(SIDE, scans=15),
        "refused-scans": jpeg(SIDE, scans=100),
        "gif": tall_gif(SIDE),
        "webp": huge_webp(SIDE),
        "png": tall_png(SIDE, SIDE),
    }
