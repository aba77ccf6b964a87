"""Bytes that are no supported image -> what they are, in words for the one who sent them.

Enters: the bytes of any file. Leaves: a phrase such as "a HEIC image". Does not know: which formats are supported.
"""

import binascii
import re

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array file (.npy)"),
    (b"II+\0", "a BigTIFF image"),
    (b"MM\0+", "a BigTIFF image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"DDS ", "a DDS texture"),
    (b"%!PS", "a PostScript document"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"P4\n", "a Netpbm image"),
    (b"P5\n", "a Netpbm image"),
    (b"P6\n", "a Netpbm image"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]", re.IGNORECASE), "a data URL; send the bytes that it encodes"),
    (re.compile(r"(?:https?|ftp|file|s3|gs)://\S", re.IGNORECASE), "an address; fetch it and send the file's bytes"),
    (re.compile(r"(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg\b", re.I | re.S), "an SVG drawing"),
    (re.compile(r"<!DOCTYPE html|<html\b", re.IGNORECASE), "an HTML page"),
    (re.compile(r"[{\[]\s*[\"\d\[{}\]-]"), "JSON text"),
    (re.compile(r"version https://git-lfs"), "a Git LFS pointer; fetch the file that it stands for"),
    (re.compile(r"<\?xml\b"), "an XML document"),
    (re.compile(r"(?:/|[A-Za-z]:\\|\.{1,2}/)[^\n\0]{0,250}\.\w{2,5}\s*$"), "a path; send the file's bytes"),
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/\-_\s]{16,}={0,2}\s*")
_LOOKED_AT = 512
_SHOWN = 24


def name_content(data: bytes) -> str:
    """What the bytes are, as far as their beginning tells."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data.startswith(b"PK\x03\x04"):
        return "a NumPy archive (.npz)" if b".npy" in data[:_LOOKED_AT] else "a ZIP archive or an Office document"
    if data.startswith(b"RIFF"):
        return f"a RIFF file of the kind {data[8:12].decode('ascii', 'backslashreplace').strip()}"
    if data[4:8] == b"ftyp":
        return "a HEIC image" if data[8:12] in _HEIF_BRANDS else "an MP4 or QuickTime video"
    return _name_text(data) or f"{len(data)} bytes beginning {data[:8]!r}"


def _name_text(data: bytes) -> str:
    """What a text is, or an empty string if it is none."""
    head = data[:_LOOKED_AT]
    try:
        text = head.decode("utf-8-sig", "strict" if len(data) <= _LOOKED_AT else "ignore").lstrip()
    except UnicodeDecodeError:
        return ""
    if not text or not all(character.isprintable() or character in "\r\n\t" for character in text):
        return ""
    for pattern, name in _TEXTS:
        if pattern.match(text):
            return name
    if _BASE64.fullmatch(head if len(data) <= _LOOKED_AT else head[:-1]) and _decodes(head):
        return "base64 text; send the bytes that it encodes"
    return f"text that begins {text[:_SHOWN]!r}"


def _decodes(head: bytes) -> bool:
    """Whether a base64 text holds something that is no text."""
    compact = re.sub(rb"\s", b"", head).replace(b"-", b"+").replace(b"_", b"/")
    try:
        found = binascii.a2b_base64(compact[: len(compact) // 4 * 4])
    except binascii.Error:
        return False
    return any(byte >= 0x80 or byte < 9 for byte in found[:16])
