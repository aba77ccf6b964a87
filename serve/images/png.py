"""The bytes of a plain PNG -> a decoded Pillow image, faster than by Pillow's own plugin.

Enters: the bytes of any file. Leaves: a `PIL.Image.Image`, or None if the file is not plain, truncated or invalid.
Does not know: models, requests.

A plain PNG is grey, RGB or RGBA with 8 bits, is not interlaced, and has only the chunks IHDR, IDAT and IEND. Most
libraries write this. The format is that of the PNG specification (third edition, W3C 2025).

For a small image, Pillow's plugin spends most of its time on chunks. So this module reads them itself, and leaves zlib
and the filters to Pillow (docs/benchmarks/history.md). `decode.py` gives all other files to the plugin, which reads
every PNG and names the fault.
"""

import zlib

from PIL import Image

START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
_SIGNATURE = START[:8]
_KEPT_CHUNKS = (b"tRNS", b"eXIf")
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_MAX_CHUNKS = 1_000  # a file with more goes to Pillow's plugin, after its parts are counted
_HEADER_BYTES = 33  # the signature and IHDR
# Bit depth, colour type, and the methods of compression, filtering and interlacing.
_GREY, _RGB, _RGBA = b"\x08\x00\x00\x00\x00", b"\x08\x02\x00\x00\x00", b"\x08\x06\x00\x00\x00"
_MODES = {_GREY: "L", _RGB: "RGB", _RGBA: "RGBA"}


def decode_plain_png(data: bytes, max_pixels: int, max_side: int = 2**31 - 1) -> Image.Image | None:
    """The image of a plain, valid PNG of at most `max_pixels`, and `max_side` a side, else None."""
    mode = _MODES.get(data[24:29])
    if mode is None or not data.startswith(START) or not data.endswith(_END) or not _is_intact(data, 12, 29):
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    fits = 0 < width * height <= max_pixels and max(width, height) <= max_side
    compressed = _join_pixels(data) if fits else None
    if compressed is None:
        return None
    image = Image.new(mode, (width, height), None)  # None: not filled first, unlike Image.frombytes
    try:
        image.frombytes(compressed, "zip", (mode, False))
    except Exception:  # too few bytes, or invalid data for zlib: Pillow's plugin tells which
        return None
    return image


def without_broken_chunks(data: bytes) -> bytes | None:
    """The file without its ancillary chunks but for intact ones that say how it looks; None if nothing changes."""
    if not data.startswith(START):  # the size that was checked would not be the one that is decoded
        return None
    at, parts = len(_SIGNATURE), [_SIGNATURE]
    while at + 12 <= len(data):
        stop = at + 8 + int.from_bytes(data[at : at + 4])
        name = data[at + 4 : at + 8]
        if name[:1].isupper() or (name in _KEPT_CHUNKS and _is_intact(data, at + 4, stop)):
            parts.append(data[at : stop + 4])
        at = stop + 4
    found = b"".join(parts)
    return None if len(found) == len(data) else found


def _join_pixels(data: bytes) -> bytes | None:
    """The contents of the IDAT chunks, or None if there are other chunks or more than _MAX_CHUNKS."""
    parts: list[bytes] = []
    at, end = _HEADER_BYTES, len(data) - len(_END)
    while at < end and len(parts) < _MAX_CHUNKS:
        stop = at + 8 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] != b"IDAT" or not _is_intact(data, at + 4, stop):
            return None
        parts.append(data[at + 8 : stop])
        at = stop + 4
    return b"".join(parts) if at == end else None


def _is_intact(data: bytes, start: int, stop: int) -> bool:
    """Whether the checksum after a chunk's name and contents is right."""
    return zlib.crc32(data[start:stop]) == int.from_bytes(data[stop : stop + 4])
