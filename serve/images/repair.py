"""An image file that is damaged and lacks no pixels -> its image.

Enters: the bytes of a file that could not be decoded, and a function that decodes one. Leaves: a Pillow image, or None.
Does not know: limits, error messages.
"""

from collections.abc import Callable

from PIL import Image, ImageChops

from serve.errors import ImageError
from serve.images.header import JPEG, PNG
from serve.images.png import without_broken_chunks

REPAIR_PASSES = 3
"""Times that a JPEG without an end marker is decoded."""
_END_OF_JPEG = b"\xff\xd9"
_TRAILER_BYTES = 1024
"""Bytes after the end marker of a JPEG, in which some cameras keep notes of their own."""
_MORE_SCAN = bytes([0x5A, 0x33, 0xC5, 0x6A, 0x91]) * 16
"""What would be read as pixels if a JPEG lacked some."""


def repair(image_bytes: bytes, load: Callable[[bytes], Image.Image]) -> Image.Image | None:
    """The image of a PNG without its broken ancillary chunks, or of a JPEG that lacks only its end marker; else None.

    A JPEG has all pixels if they stay the same whatever follows.
    """
    if image_bytes.startswith(PNG):
        repaired = without_broken_chunks(image_bytes)
        return None if repaired is None else load(repaired)
    if not lacks_end(image_bytes):
        return None
    body = image_bytes.removesuffix(_END_OF_JPEG[:1])
    try:
        ended, continued = (load(body + more + _END_OF_JPEG) for more in (b"", _MORE_SCAN))
    except ImageError:
        return None
    return ended if ImageChops.difference(ended, continued).getbbox() is None else None


def lacks_end(image_bytes: bytes) -> bool:
    """Whether a JPEG has no end marker."""
    return image_bytes.startswith(JPEG) and _END_OF_JPEG not in image_bytes[-_TRAILER_BYTES:]
