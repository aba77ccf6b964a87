"""`photo/2`: as photo/1, after even margins around the picture were peeled off.

Enters: a decoded image. Leaves: uint8 [H, W, 3]. Does not know: image files, models.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.images.pixels import Pixels, Policy, Report
from serve.images.policies.photo_1 import photo_1, scale, upright_rgb

_PIXELS_AT_ONCE = 250_000
"""Pixels that are compared with a margin in one step."""
_EVEN = 16
"""Levels by which a margin's pixels may differ from its colour: the ringing of a JPEG."""
_STRAY = 0.01
"""Share of the pixels of a margin's row that may differ more."""
_EDGE = 0.6
"""Share of the pixels along the edge of a picture that differ from the margin beside them."""
_RIM = 0.08
"""Share of a picture's side that counts as its edge, for the blur of scaling and the ringing of a JPEG."""
_LEAST_MARGIN = 0.04
"""Share of a side below which a margin is left: a peeled photograph would be scaled anew for nothing."""
_LEAST_LEFT = 0.2
"""Share of each side that has to be left. Else the picture is even nearly all over, and stays as it is."""


def photo_2(width: int, height: int, *, margins: str) -> Policy:
    """The policy for a model's width and height; `margins` is "peel" or "keep".

    It leaves an RGB image of that size without margins unchanged. Raises TypeError for other margins.
    """
    if margins not in ("peel", "keep"):
        raise TypeError("margins")  # find_policy makes it UnknownPolicy
    if margins == "keep":
        return photo_1(width, height)

    def prepare(image: Image.Image, report: Report | None = None, /) -> Pixels:
        rgb = upright_rgb(image)
        del image  # a large one takes much memory
        box = find_picture(rgb)
        rgb = rgb if box == (0, 0, *rgb.size) else rgb.crop(box)
        if report:
            report.add_step("levels", rgb)
        return scale(rgb, width, height)

    return prepare


def find_picture(image: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is inside even margins, or of the whole RGB image.

    Margins have one colour, which the corners show. They are on two opposite sides at least, and the picture inside
    begins along most of its edge: a thing on an even ground is no picture with margins.
    """
    width, height = whole = image.size
    corners = np.array([image.getpixel((x, y)) for x in (0, width - 1) for y in (0, height - 1)], np.int16)
    if np.abs(corners - corners[0]).max() > _EVEN:
        return 0, 0, *whole  # most pictures end here, quickly
    colour = np.median(corners, axis=0).astype(np.int16)
    differs = _find_other(image, colour)
    top, bottom = _find_span(differs.mean(axis=1) > _STRAY)
    left, right = _find_span(differs.mean(axis=0) > _STRAY)
    if bottom - top < _LEAST_LEFT * height or right - left < _LEAST_LEFT * width:
        return 0, 0, *whole
    inside = differs[top:bottom, left:right]
    first, last = _find_edges(inside.mean(axis=1), (top > 0, bottom < height))
    begin, end = _find_edges(inside.mean(axis=0), (left > 0, right < width))
    if first < 0 or begin < 0:
        return 0, 0, *whole
    left, top, right, bottom = left + begin, top + first, left + end, top + last
    down, across = min(top, height - bottom) / height, min(left, width - right) / width
    return (left, top, right, bottom) if max(down, across) >= _LEAST_MARGIN else (0, 0, *whole)


def _find_other(image: Image.Image, colour: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Where an RGB image differs from a colour, a few rows at a time, for the differences take six bytes a pixel."""
    found = np.empty((image.height, image.width), bool)
    step = max(1, _PIXELS_AT_ONCE // image.width)
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        found[top : top + step] = (np.abs(np.asarray(rows).astype(np.int16) - colour) > _EVEN).any(axis=2)
    return found


def _find_edges(shares: npt.NDArray[np.float64], has_margins: tuple[bool, bool]) -> tuple[int, int]:
    """Where a picture begins and ends along one side, for the share of each row that differs from the margins.

    It is -1 twice if it does not begin within its rim.
    """
    rim = max(1, round(_RIM * len(shares)))
    full = shares >= _EDGE
    begins, ends = (int(flags[:rim].argmax()) for flags in (full, full[::-1]))
    if (has_margins[0] and not full[begins]) or (has_margins[1] and not full[-1 - ends]):
        return -1, -1
    return begins * has_margins[0], len(shares) - ends * has_margins[1]


def _find_span(flags: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """From the first to after the last that is true; an empty span if none is."""
    found = np.flatnonzero(flags)
    return (int(found[0]), int(found[-1]) + 1) if found.size else (0, 0)
