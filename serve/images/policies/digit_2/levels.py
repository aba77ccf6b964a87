"""A decoded image -> upright grey levels in which ink and paper differ.

Enters: a `PIL.Image.Image`. Leaves: an image of mode L. Does not know: paper, strokes, models.

Strokes on a transparent ground may have the colour of the white that they would be laid on. Then the opacity is what
was drawn, and it is taken as dark ink on white.
"""

import numpy as np
from PIL import Image, ImageChops

from serve.images.pixels import convert, eight_bits_of_range, is_transparent, over_white, shrink, upright

_OPAQUE = 128
_ONE_COLOUR = 24
"""Levels between the darkest and the lightest of what is opaque, the outermost hundredths left out."""
_NEAR_WHITE = 160
"""The level above which opaque strokes are hard to see on white."""
_WHITE = 255


def grey_levels(image: Image.Image, most_side: int) -> Image.Image:
    """Upright, of mode L, averaged down until a side has less than twice `most_side` pixels.

    Raises UnreadableImage.
    """
    small = upright(shrink(eight_bits_of_range(image), max(image.size) // most_side))
    if not is_transparent(small):
        return small if small.mode == "L" else convert(small, "RGB").convert("L")
    return _drawn_opacity(small) or convert(over_white(small), "L")


def _drawn_opacity(image: Image.Image) -> Image.Image | None:
    """The opacity as dark ink on white, if all that is opaque has one colour near white; else None."""
    layered = convert(image, "LA")
    level, opacity = (np.frombuffer(band.tobytes(), np.uint8) for band in layered.split())
    opaque = level[opacity >= _OPAQUE]
    if not opaque.size or opaque.size == level.size:
        return None
    low, high = np.percentile(opaque, (1, 99))
    if high - low > _ONE_COLOUR or low < _NEAR_WHITE:
        return None
    return ImageChops.invert(layered.getchannel("A"))
