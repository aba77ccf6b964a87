"""`digit/1`: a handwritten digit in the form of MNIST (LeCun et al. 1998): upright, fitted in a box, centred by mass.

Enters: a decoded image. Leaves: uint8 [H, W, 1], light strokes on black. Does not know: image files, models.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.images.pixels import Pixels, Policy, Report, convert, over_white, upright
from serve.images.policies.box import centre_by_mass, fit_in_box

_DARK = 128
_DARK_LEVELS = bytes(range(_DARK))
_PAPER_SPREAD = 64
"""Grey levels by which the paper's brightness may vary along the edge."""
_PAPER_NOISE = 24
"""Grey levels by which a pixel of the paper may differ from the fitted plane."""
_MAX_SIDE = 512
"""Pixels. Larger images are averaged down before the strokes are found."""


def digit_1(width: int, height: int, *, box: int) -> Policy:
    """The policy for a model's width and height: strokes are fitted into `box` x `box` pixels.

    It leaves a grey image of that size with a dark edge unchanged. Raises TypeError if `box` does not fit.
    """
    if type(box) is not int or not 0 < box <= min(width, height):
        raise TypeError("box")  # find_policy makes it UnknownPolicy

    def prepare(image: Image.Image, report: Report | None = None, /) -> Pixels:
        image = upright(image)
        if image.mode == "L" and image.size == (width, height) and "transparency" not in image.info:
            pixels = image.tobytes()
            if _is_dark(pixels[:width] + pixels[-width:] + pixels[::width] + pixels[width - 1 :: width]):
                return np.frombuffer(pixels, np.uint8).reshape(height, width, 1)
        grey = convert(over_white(image), "L")
        # The box does not show finer strokes, and as float32 a photo takes four times its memory.
        small = _array(grey.reduce(max(1, max(grey.size) // _MAX_SIDE)))
        ink = _ink(small)
        if report:
            report.add_step("levels", small)
            report.add_step("ink", ink)
        return centre_by_mass(fit_in_box(ink, box), width, height)[..., None]

    return prepare


def _array(grey: Image.Image) -> Pixels:
    return np.frombuffer(grey.tobytes(), np.uint8).reshape(grey.height, grey.width)


def _is_dark(edge: bytes) -> bool:
    """Whether the median of the levels along an image's edge is dark. MNIST's edges are black."""
    return 2 * len(edge.translate(None, _DARK_LEVELS)) < len(edge)


def _ink(grey: Pixels) -> npt.NDArray[np.float32]:
    """The difference of each pixel from the paper, float32 [H, W] from 0 (paper) to 1 (the strongest stroke)."""
    paper = _paper(grey)
    difference = grey - paper if paper.mean() < _DARK else paper - grey
    ink = np.maximum(difference, 0, dtype=np.float32)
    return np.asarray(ink / max(float(ink.max()), 1.0), np.float32)


def _paper(grey: Pixels) -> npt.NDArray[np.float32]:
    """The brightness of the paper at each pixel, float32 [H, W]: a plane that is fitted to the edge by least squares.

    The second fit leaves out pixels far from the first plane: they belong to strokes that touch the edge.
    """
    height, width = grey.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    is_edge = np.zeros((height, width), bool)
    is_edge[[0, -1]] = is_edge[:, [0, -1]] = True
    points = np.stack([np.ones(int(is_edge.sum()), np.float32), rows[is_edge], columns[is_edge]], axis=1)
    levels = grey[is_edge].astype(np.float32)
    near = np.abs(levels - np.median(levels)) <= _PAPER_SPREAD
    for _ in range(2):
        plane = np.linalg.lstsq(points[near], levels[near], rcond=None)[0]
        near = np.abs(points @ plane - levels) <= _PAPER_NOISE
        if not near.any():
            break
    return np.asarray(plane[0] + plane[1] * rows + plane[2] * columns, np.float32)
