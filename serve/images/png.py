"""The bytes of a plain PNG -> a decoded Pillow image, in half the time of Pillow's own plugin.

Enters: the bytes of any file. Leaves: a `PIL.Image.Image`, or None for a file that is not plain, not whole or broken.
`decode.py` hands those to Pillow's plugin, which reads every PNG and names the fault. Does not know: models, callers.

A plain PNG is grey, RGB or RGBA in 8 bits, not interlaced, and has no chunks but IHDR, IDAT and IEND (PNG, third
edition, W3C 2025). Most libraries write that. Pillow undoes the filters; this module walks through the chunks, which
takes Pillow's plugin longer than the pixels of a small image.
"""

import zlib

from PIL import Image

START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_MOST_CHUNKS = 1_000  # of pixels; a file of more goes to Pillow's plugin, once its parts are counted
_HEADER_BYTES = 33  # the signature, and all of IHDR
# By bit depth, colour type, and the methods of compression, filtering and interlacing.
_GREY, _RGB, _RGBA = b"\x08\x00\x00\x00\x00", b"\x08\x02\x00\x00\x00", b"\x08\x06\x00\x00\x00"
_MODES = {_GREY: "L", _RGB: "RGB", _RGBA: "RGBA"}


def decode_plain_png(data: bytes, max_pixels: int) -> Image.Image | None:
    """The image of a plain and sound PNG of at most `max_pixels`, else None."""
    mode = _MODES.get(data[24:29])
    if mode is None or not data.startswith(START) or not data.endswith(_END) or not _is_sound(data, 12, 29):
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    compressed = _join_pixels(data) if 0 < width * height <= max_pixels else None
    if compressed is None:
        return None
    image = Image.new(mode, (width, height), None)  # None: not filled first, as Image.frombytes does
    try:
        image.frombytes(compressed, "zip", (mode, False))
    except Exception:  # too few bytes, or some that zlib refuses: Pillow's plugin says which
        return None
    return image


def _join_pixels(data: bytes) -> bytes | None:
    """What the IDAT chunks hold, or None where anything else lies between header and end, or too many of them."""
    parts: list[bytes] = []
    at, end = _HEADER_BYTES, len(data) - len(_END)
    while at < end and len(parts) < _MOST_CHUNKS:
        stop = at + 8 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] != b"IDAT" or not _is_sound(data, at + 4, stop):
            return None
        parts.append(data[at + 8 : stop])
        at = stop + 4
    return b"".join(parts) if at == end else None


def _is_sound(data: bytes, start: int, stop: int) -> bool:
    """Whether a chunk's name and contents have the checksum that follows them."""
    return zlib.crc32(data[start:stop]) == int.from_bytes(data[stop : stop + 4])
