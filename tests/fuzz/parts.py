"""A file <-> the parts that its format is made of, so that a mutation reaches what lies behind lengths and checksums.

Enters: the bytes of any file. Leaves: a list of parts, which `join` puts together with lengths and checksums made anew.
Does not know: what is mutated, and why.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

Parts = list[bytes]

PNG, RIFF, JPEG = b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8\xff"
PIECE_BYTES = 16
"""Bytes of a part of a format that is not known here."""
_SCAN = 0xDA
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
"""What ends the coded pixels of a scan: no stuffed zero, and no restart."""


class Layout(NamedTuple):
    """How the files of one signature are taken apart and put together."""

    split: Callable[[bytes], Parts]
    join: Callable[[Parts], bytes]


def layout_of(data: bytes) -> Layout:
    """The layout of a file by its signature; a sequence of short pieces for others."""
    return next((layout for signature, layout in _LAYOUTS.items() if data.startswith(signature)), _PIECES)


def _split_png(data: bytes) -> Parts:
    """Each chunk as its name and contents; the pixels are one chunk, and decompressed."""
    parts, at = [], len(PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        part = data[at + 4 : at + 8 + length]
        if parts and part.startswith(b"IDAT") and parts[-1].startswith(b"IDAT"):
            parts[-1] += part[4:]
        else:
            parts.append(part)
        at += 12 + length
    return [b"IDAT" + _inflate(part[4:]) if part.startswith(b"IDAT") else part for part in parts]


def _join_png(parts: Parts) -> bytes:
    return PNG + b"".join(map(_png_chunk, parts))


def _png_chunk(part: bytes) -> bytes:
    name, contents = part[:4].ljust(4, b"x"), part[4:]
    if name == b"IDAT":
        contents = zlib.compress(contents, 1)
    return struct.pack(">I", len(contents)) + name + contents + struct.pack(">I", zlib.crc32(name + contents))


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def _split_jpeg(data: bytes) -> Parts:
    """Each segment as its marker's code and contents; a scan has its coded pixels with it."""
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        code, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        end = at + 2 + length
        if code == _SCAN:
            found = _NEXT_MARKER.search(data, end)
            end = found.start() if found else len(data)
        parts.append(data[at + 1 : at + 2] + data[at + 4 : end])
        at = end
    return parts


def _join_jpeg(parts: Parts) -> bytes:
    return b"\xff\xd8" + b"".join(map(_jpeg_segment, parts)) + b"\xff\xd9"


def _jpeg_segment(part: bytes) -> bytes:
    code, contents = part[:1] or b"\xe0", part[1:]
    length = 2 + len(contents)
    if code[0] == _SCAN and contents:
        length = 6 + 2 * contents[0]  # the header of the scan alone (T.81, B.2.3)
    return b"\xff" + code + struct.pack(">H", min(length, 65_535)) + contents


def _split_riff(data: bytes) -> Parts:
    """The form's name, and each chunk as its name and contents."""
    parts, at = [data[8:12]], 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        parts.append(data[at : at + 4] + data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return parts


def _join_riff(parts: Parts) -> bytes:
    chunks = (
        part[:4].ljust(4, b"x") + struct.pack("<I", len(part[4:])) + part[4:] + bytes(len(part[4:]) % 2)
        for part in parts[1:]
    )
    body = b"".join([*parts[:1], *chunks])
    return RIFF + struct.pack("<I", len(body)) + body


def _split_pieces(data: bytes) -> Parts:
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


def _join_pieces(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)


_PIECES = Layout(_split_pieces, _join_pieces)
_LAYOUTS = {
    PNG: Layout(_split_png, _join_png),
    JPEG: Layout(_split_jpeg, _join_jpeg),
    RIFF: Layout(_split_riff, _join_riff),
}
