"""The bytes of a small image file -> its width and height, read from the header without decoding.

Enters: the bytes of any file. Leaves: width and height, or None if the header does not bound the time to decode the
file; the number of a file's parts. Does not know: which size is large, error messages, pixels.

Only ordinary PNG, JPEG and BMP files get a size: few parts, few bytes beside the pixels, and nothing compressed but the
pixels. Pillow reads each segment, chunk, tag and colour before the pixels in Python, and 32 KiB have room for ten
thousand of them. The offsets come from the PNG specification (third edition, W3C 2025), from ITU-T T.81 for JPEG, and
from Windows' BITMAPCOREHEADER and BITMAPINFOHEADER for BMP.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from serve.images.containers.avif import announced_avif, is_avif
from serve.images.containers.tiff import announced_tiff, is_tiff

PNG, JPEG, RIFF, GIF, BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM"

Size = tuple[int, int]
"""Width and height."""

_MAX_PARTS = 32
"""Segments before the pixels of a JPEG, or chunks of a PNG. Ordinary files have 5 to 20."""
_MAX_OTHER_BYTES = 4096
"""Bytes beside the pixels: enough for tables, an sRGB profile and a camera's tags, but not for thousands of tags."""
_MAX_COLOURS = 256
# Signature, length and name of IHDR; width; height; the other bytes of IHDR; length and name of the next chunk.
_PNG_START = struct.Struct(">16sII9xI4s")
_PNG_START_BYTES = PNG + b"\0\0\0\x0dIHDR"
_PNG_OVERHEAD_BYTES = 33 + 12 + 12  # signature and IHDR; length, name and checksum of IDAT; IEND
# Each of these may decompress to a megabyte, however small the file.
_COMPRESSED_CHUNKS = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_PIXEL_CHUNKS = frozenset({b"IDAT"})
# JPEG markers: the codes from 0xC0 to 0xFE without a length, the markers with one, and the markers of a frame header.
# DHP (0xDE) is not a frame header, but Pillow takes a size from it.
_CODES_WITHOUT_LENGTH = {0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
_SEGMENTS = frozenset(b"\xff" + bytes([code]) for code in {*range(0xC0, 0xFF)} - _CODES_WITHOUT_LENGTH)
_FRAMES = frozenset(b"\xff" + bytes([code]) for code in {*range(0xC0, 0xD0), 0xDE} - {0xC4, 0xC8, 0xCC})
_SCAN = b"\xff\xda"
_FILL = b"\xff\xff"
_GIF_HEADER_BYTES = 13
_GIF_EXTENSION = 0x21
_GIF_COMMENT, _GIF_APPLICATION = b"\xfe", b"\xff"
_GIF_LOOP = b"NETSCAPE2.0"
_GIF_FRAME = b","
_GIF_FRAME_OR_END = b",;"
_BMP_HEADER_BYTES = (40, 52, 56, 64, 108, 124)
_BMP_OLD_HEADER_BYTES = 12
_BMP_RUN_LENGTHS = (1, 2)


def read_size(data: bytes) -> Size | None:
    """Width and height of an ordinary PNG, JPEG or BMP, else None."""
    if data.startswith(PNG):
        return _read_png(data)
    if data.startswith(JPEG):
        return _read_jpeg(data)
    return _read_bmp(data) if data.startswith(BMP) else None


def announced_size(data: bytes) -> Size | None:
    """Width and height that a file's header announces, of any supported format; None if they are not found soon.

    They say what decoding may cost, and nothing of whether it succeeds. The offsets of WebP are those of RFC 9649.
    """
    if data.startswith(PNG):
        return read_png_size(data)
    if data.startswith(JPEG):
        return _find_jpeg_size(data)
    if data.startswith(GIF):
        width, height = struct.unpack_from("<2H", data.ljust(10, b"\0"), 6)
        return width, height
    if is_tiff(data) or is_avif(data):
        return announced_tiff(data) if is_tiff(data) else announced_avif(data)
    return _announced_webp(data) if data.startswith(RIFF) else _read_bmp(data)


def _announced_webp(data: bytes) -> Size | None:
    kind = data[8:16]
    if kind == b"WEBPVP8 ":
        return _u32(data, 26) & 0x3FFF, _u32(data, 28) & 0x3FFF
    if kind == b"WEBPVP8L":
        bits = _u32(data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"WEBPVP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _find_jpeg_size(data: bytes) -> Size | None:
    """The size in the first frame header, if it is among the first segments."""
    at = 2
    for _ in range(_MAX_PARTS):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4])
        if marker in _FRAMES:
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        if marker not in _SEGMENTS or length < 2:
            return None
        at += 2 + length
    return None


def read_png_size(data: bytes) -> Size:
    """Width and height of a PNG, at the fixed place of the specification: IHDR is the first chunk, and the only one."""
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def read_gif_size(data: bytes) -> Size:
    """Width and height of a GIF's screen, extended by its first frame if that is outside. Pillow does the same."""
    width, height = struct.unpack_from("<2H", data.ljust(10, b"\0"), 6)
    *_, at = _gif_parts(data)
    frame = data[at : at + 9]
    if not frame.startswith(_GIF_FRAME) or len(frame) < 9:
        return width, height
    left, top, frame_width, frame_height = struct.unpack_from("<4H", frame, 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def is_run_length_bmp(data: bytes) -> bool:
    """Whether a BMP's pixels are run-length encoded. The oldest header does not have this."""
    return data.startswith(BMP) and _u32(data, 14) != _BMP_OLD_HEADER_BYTES and _u32(data, 30) in _BMP_RUN_LENGTHS


def count_parts(data: bytes, limit: int) -> int:
    """The number of parts that Pillow reads one by one in Python, counted to at most `limit` + 1."""
    if data.startswith(PNG):
        parts: Iterator[object] = _png_chunks(data)
    elif data.startswith(JPEG):
        parts = _jpeg_parts(data)
    else:
        parts = _gif_parts(data) if data.startswith(GIF) else iter(())
    return sum(1 for _ in islice(parts, limit + 1))


def _read_png(data: bytes) -> Size | None:
    if len(data) < _PNG_START.size:
        return None
    start, width, height, length, name = _PNG_START.unpack_from(data)
    # Most small files have only one IDAT between IHDR and IEND.
    if name == b"IDAT" and length == len(data) - _PNG_OVERHEAD_BYTES and start == _PNG_START_BYTES:
        return width, height
    return (width, height) if _is_ordinary(_png_chunks(data)) else None


def _read_jpeg(data: bytes) -> Size | None:
    """The size in the only frame header, if a scan follows after few segments. Pillow reads up to the scan, too."""
    size, at = None, 2
    for _ in range(_MAX_PARTS):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4])
        if marker == _SCAN:
            return size if at <= _MAX_OTHER_BYTES else None
        if marker not in _SEGMENTS or length < 2 or (marker in _FRAMES and size):
            return None
        if marker in _FRAMES:
            size = int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        at += 2 + length
    return None


def _read_bmp(data: bytes) -> Size | None:
    """The size in a header that Pillow reads, if there are no run lengths and at most 256 colours."""
    header_bytes = _u32(data, 14)
    if header_bytes == _BMP_OLD_HEADER_BYTES:
        return int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
    if header_bytes not in _BMP_HEADER_BYTES or is_run_length_bmp(data) or _u32(data, 46) > _MAX_COLOURS:
        return None
    height = _u32(data, 22)
    # A negative height means that the first row is the top one. This is Pillow's test for it.
    return _u32(data, 18), 2**32 - height if data[25:26] == b"\xff" else height


def _is_ordinary(chunks: Iterable[tuple[bytes, int]]) -> bool:
    """Whether chunks, given by name and length, are few, not compressed, and mostly pixels."""
    other_bytes = 0
    for number, (name, length) in enumerate(chunks):
        if number == _MAX_PARTS or name in _COMPRESSED_CHUNKS:
            return False
        other_bytes += 0 if name in _PIXEL_CHUNKS else length
    return other_bytes <= _MAX_OTHER_BYTES


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = len(PNG)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], length
        at += 12 + length


def _jpeg_parts(data: bytes) -> Iterator[int]:
    """The start of each segment before the first scan, and of each fill byte or stray byte."""
    at = 2
    while at < len(data) and (marker := data[at : at + 2]) != _SCAN:
        yield at
        if marker in _SEGMENTS:
            at += max(4, 2 + int.from_bytes(data[at + 2 : at + 4]))
        else:
            at += 1 if marker == _FILL or marker[0] != _FILL[0] else 2


def _gif_parts(data: bytes) -> Iterator[int]:
    """The start of each block of the extensions before the first frame (GIF89a), and of each stray byte.

    The last item is the start of the frame, or of what ends the file.
    """
    flags = data[10] if len(data) > _GIF_HEADER_BYTES else 0
    at = _GIF_HEADER_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while at < len(data) and data[at] not in _GIF_FRAME_OR_END:
        if data[at] == _GIF_EXTENSION:
            for block_at in _gif_blocks(data, at):
                yield (at := block_at)
        else:
            yield at
        at += 1
    yield at


def _gif_blocks(data: bytes, at: int) -> Iterator[int]:
    """The start of each block of one extension. An empty block ends it.

    Pillow ignores an empty first block except in a comment, and an empty second block in a loop extension. So do we.
    """
    label, at = data[at + 1 : at + 2], at + 2
    is_loop = label == _GIF_APPLICATION and data[at + 1 : at + 12] == _GIF_LOOP and data[at] >= len(_GIF_LOOP)
    ignored = 0 if label == _GIF_COMMENT else 2 if is_loop else 1
    while at < len(data) and (data[at] or ignored > 0):
        yield at
        ignored -= 1
        at += 1 + data[at]
    yield at


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
