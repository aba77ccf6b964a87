"""`photo/2`: as photo/1, after even margins were peeled off, or a thing on an even ground was framed.

Enters: a decoded image. Leaves: uint8 [H, W, 3]. Does not know: image files, models.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.images.pixels import Pixels, Policy, Report
from serve.images.policies.photo_1 import find_centre, photo_1, scale, upright_rgb

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of an image."""

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
"""Share of a side that has to be left: of both sides by peeling, of one by framing. Else the picture stays as it is."""

_CUT = 0.02
"""Share of a thing's longer side that a crop may cut off."""
_MOST_EDGE = 0.5
"""Share of the pixels along a picture's edge that a thing may cover."""
_ROOM = 0.1
"""Share of a thing's longer side that is left beside it, as photographers leave it."""
_MOST_FRAME = 1024
"""Pixels that a frame's longer side keeps. One of twice as many is averaged down: a strip's would fill the memory."""


def photo_2(width: int, height: int, *, margins: str) -> Policy:
    """The policy for a model's width and height; `margins` is "peel", "frame" or "keep".

    "frame" peels margins off, too. Where the crop would cut a thing on an even ground, it puts the whole thing on a
    larger ground instead. All leave an RGB image of that size without margins unchanged. Raises TypeError for others.
    """
    if margins not in ("peel", "frame", "keep"):
        raise TypeError("margins")  # find_policy makes it UnknownPolicy
    if margins == "keep":
        return photo_1(width, height)

    def prepare(image: Image.Image, report: Report | None = None, /) -> Pixels:
        rgb = upright_rgb(image)
        del image  # a large one takes much memory
        ground = _find_ground(rgb)
        if ground and (picture := _find_picture(rgb.size, ground)):
            rgb = rgb.crop(picture) if max(_measure_margins(rgb.size, picture)) >= _LEAST_MARGIN else rgb
        elif ground and margins == "frame":
            rgb = _frame(rgb, ground, width / height) or rgb
        if report:
            report.add_step("levels", rgb)
        return scale(rgb, width, height)

    return prepare


class _Ground(NamedTuple):
    """What lies around a picture or a thing."""

    colour: npt.NDArray[np.int16]
    """That of the corners, [3]."""
    differs: npt.NDArray[np.bool_]
    """Where the image has another colour, [H, W]."""
    span: Box
    """The box around that; it is empty if there is nothing."""


def _find_ground(image: Image.Image) -> _Ground | None:
    """The even ground of an RGB image, or None if its corners differ."""
    width, height = image.size
    corners = np.array([image.getpixel((x, y)) for x in (0, width - 1) for y in (0, height - 1)], np.int16)
    if np.abs(corners - corners[0]).max() > _EVEN:
        return None  # most pictures end here, quickly
    colour = np.median(corners, axis=0).astype(np.int16)
    differs = _find_other(image, colour)
    top, bottom = _find_span(differs.mean(axis=1) > _STRAY)
    left, right = _find_span(differs.mean(axis=0) > _STRAY)
    return _Ground(colour, differs, (left, top, right, bottom))


def _find_picture(size: tuple[int, int], ground: _Ground) -> Box | None:
    """The box of what is inside even margins, or None if there are none.

    They are on two opposite sides at least, and the picture inside begins along most of its edge: a thing on an even
    ground is no picture with margins.
    """
    (width, height), (left, top, right, bottom) = size, ground.span
    if min((right - left) / width, (bottom - top) / height) < _LEAST_LEFT:
        return None
    inside = ground.differs[top:bottom, left:right]
    first, last = _find_edges(inside.mean(axis=1), (top > 0, bottom < height))
    begin, end = _find_edges(inside.mean(axis=0), (left > 0, right < width))
    if first < 0 or begin < 0:
        return None
    box = left + begin, top + first, left + end, top + last
    return box if max(_measure_margins(size, box)) > 0 else None


def _measure_margins(size: tuple[int, int], box: Box) -> tuple[float, float]:
    """The thinner one of two opposite margins, as a share of the side: down, and across."""
    (width, height), (left, top, right, bottom) = size, box
    return min(top, height - bottom) / height, min(left, width - right) / width


def _frame(image: Image.Image, ground: _Ground, aspect: float) -> Image.Image | None:
    """A whole thing in the middle of its ground, or None if the crop to an aspect ratio does not cut it.

    The ground lies along most of the picture's edge. Else it is a photograph whose corners are alike by chance.
    """
    (width, height), (left, top, right, bottom) = image.size, ground.span
    if max((right - left) / width, (bottom - top) / height) < _LEAST_LEFT or left == right or top == bottom:
        return None
    crop = find_centre((width, height), aspect)
    slack = _CUT * max(right - left, bottom - top)
    if left >= crop[0] - slack and top >= crop[1] - slack and right <= crop[2] + slack and bottom <= crop[3] + slack:
        return None
    edge = np.concatenate([*ground.differs[[0, -1]], *ground.differs[:, [0, -1]].T])
    if edge.mean() > _MOST_EDGE:
        return None
    thing = image.crop((left, top, right, bottom))
    high = max(thing.height, thing.width / aspect) * (1 + _ROOM)
    if (factor := int(high * max(1, aspect)) // _MOST_FRAME) > 1:
        thing = thing.reduce(factor)
        high = max(thing.height, thing.width / aspect) * (1 + _ROOM)
    size = max(1, round(high * aspect)), max(1, round(high))
    framed = Image.new("RGB", size, tuple(ground.colour.tolist()))
    framed.paste(thing, ((size[0] - thing.width) // 2, (size[1] - thing.height) // 2))
    return framed


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
