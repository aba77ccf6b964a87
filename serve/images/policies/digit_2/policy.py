"""`digit/2`: a handwritten digit in the form of MNIST (LeCun et al. 1998), from pictures as people have them.

Enters: a decoded image. Leaves: uint8 [H, W, 1], light strokes on black. Does not know: image files, models.

    levels -> paper -> ink -> rulings and surroundings out -> parts -> fitted in a box, centred by mass
"""

import numpy as np
from PIL import Image

from serve.images.pixels import Pixels, Policy, Report, upright
from serve.images.policies.box import centre_by_mass, fit_in_box
from serve.images.policies.digit_2.levels import grey_levels
from serve.images.policies.digit_2.strokes import find_strokes, soften

_MOST_SIDE = 160
"""Pixels of the longer side on which strokes are found."""
_FINE_SIDE = 512
"""Pixels of the longer side, at least, on which a small digit is looked at again."""
_DETAIL = 3
"""Pixels of a stroke's picture for one of the box: with fewer, the digit is small."""
_BLACK = bytes(range(32))
"""Levels of the paper of MNIST's own images, with the ringing of a JPEG."""
_DARK = bytes(range(128))
NO_INK, ONE_PART, SEVERAL_PARTS = "NO_INK", "ONE_PART", "SEVERAL_PARTS"
"""Notes: nothing was written, one digit, or several things that lie apart. An image in MNIST's own form is not looked
at, so it has no note unless it is empty."""


def digit_2(width: int, height: int, *, box: int) -> Policy:
    """The policy for a model's width and height: strokes are fitted into `box` x `box` pixels.

    It leaves a grey image of that size unchanged if it is light on black. Raises TypeError if `box` does not fit.
    """
    if type(box) is not int or not 0 < box <= min(width, height):
        raise TypeError("box")  # find_policy makes it UnknownPolicy

    def prepare(image: Image.Image, report: Report | None = None, /) -> Pixels:
        report = report or Report()
        if image.mode == "L" and image.width * image.height == width * height and "transparency" not in image.info:
            own = upright(image)
            pixels = own.tobytes()
            if own.width == width and _is_own_form(pixels, width):
                report.notes += [] if pixels.translate(None, _BLACK) else [NO_INK]
                return np.frombuffer(pixels, np.uint8).reshape(height, width, 1)
        grey = grey_levels(image, _FINE_SIDE)
        del image  # a large one takes much memory
        factor = -(-max(grey.size) // _MOST_SIDE)
        small = grey.reduce(factor) if factor > 1 else grey
        strokes = find_strokes(np.asarray(small))
        report.notes.append((NO_INK, ONE_PART, SEVERAL_PARTS)[min(strokes.groups, 2)])
        report.add_step("levels", small)
        report.add_step("ink", strokes.ink)
        soft = soften(strokes, grey, factor, _DETAIL * box)
        report.add_step("strokes", soft)
        return centre_by_mass(fit_in_box(soft, box), width, height)[..., None]

    return prepare


def _is_own_form(pixels: bytes, width: int) -> bool:
    """Whether the edge is black and most of the rest is dark."""
    edge = pixels[:width] + pixels[-width:] + pixels[::width] + pixels[width - 1 :: width]
    if 2 * len(edge.translate(None, _BLACK)) >= len(edge):
        return False
    return 2 * len(pixels.translate(None, _DARK)) < len(pixels)
