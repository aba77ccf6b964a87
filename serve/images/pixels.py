"""What every policy does first: turn an image upright, lay it over white, bring it to 8 bits a channel.

Enters: a `PIL.Image.Image`. Leaves: another, or uint8 pixels, or a PNG of them. Does not know: policies, models.
"""

from collections.abc import Callable
from io import BytesIO
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from serve.errors import UnreadableImage

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [H, W, C]."""

Policy: TypeAlias = Callable[[Image.Image], Pixels]
"""A decoded image -> the pixels that one model takes. Raises UnreadableImage."""

_WHITE = 255
_COMPOSITE_PIXELS = 250_000
"""Pixels that are laid over white at a time, 4 ms: Pillow holds the interpreter's lock meanwhile."""
# A PNG, JPEG or WebP that was turned by its camera says so under one of these, by one of these numbers (EXIF 2.3).
_ORIENTATION_KEYS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """As the camera says that it was held, by EXIF orientation; broken tags change nothing."""
    if _ORIENTATION_KEYS.isdisjoint(image.info):
        return image
    try:
        # Not ImageOps.exif_transpose: it writes all other tags anew, and fails on many that are harmless here.
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken tags fail in any way; like every viewer, show the picture as it lies
        return image
    return image if turn is None else image.transpose(turn)


def over_white(image: Image.Image) -> Image.Image:
    """Lay whatever is transparent over white paper; 8 bits a channel."""
    image = _eight_bit(image)
    try:
        if not image.has_transparency_data:
            return image
        layered = image.convert("RGBA")
    except Exception as error:  # no palette, or transparency for over 256 colours: each fails in its own way
        raise UnreadableImage("wanted a palette that fits its image, got one that does not") from error
    return _composite(layered)


def _composite(layered: Image.Image) -> Image.Image:
    """RGBA over white, RGB, a few rows at a time."""
    flat = Image.new("RGB", layered.size)
    rows = max(1, _COMPOSITE_PIXELS // layered.width)
    for top in range(0, layered.height, rows):
        strip = layered.crop((0, top, layered.width, min(top + rows, layered.height)))
        paper = Image.new("RGBA", strip.size, (_WHITE,) * 4)
        flat.paste(Image.alpha_composite(paper, strip).convert("RGB"), (0, top))
    return flat


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, its one transparent level to white: Pillow's own conversion clips both."""
    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image).astype(np.uint16)
    transparent = deep == image.info.get("transparency", -1)
    return Image.fromarray(np.where(transparent, _WHITE, deep >> 8).astype(np.uint8))


def to_png(pixels: Pixels) -> bytes:
    """Prepared pixels uint8 [H, W, C] as a PNG file, to be looked at or sent again."""
    buffer = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
