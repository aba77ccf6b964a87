"""`digit/1`: a handwritten digit in the form of MNIST (LeCun et al. 1998): upright, fitted in a box, centred by mass.

Enters: a decoded image. Leaves: uint8 [H, W, 1], light strokes on black. Does not know: image files, models.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.images.pixels import Pixels, Policy, over_white, upright

_DARK = 128
_DARK_LEVELS = bytes(range(_DARK))
_MIN_INK = 0.25
"""Share of the darkest stroke. Fainter pixels are paper, smears or ringing of a JPEG."""
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

    def prepare(image: Image.Image) -> Pixels:
        image = upright(image)
        if image.mode == "L" and image.size == (width, height) and "transparency" not in image.info:
            pixels = image.tobytes()
            if _is_dark(pixels[:width] + pixels[-width:] + pixels[::width] + pixels[width - 1 :: width]):
                return np.frombuffer(pixels, np.uint8).reshape(height, width, 1)
        grey = over_white(image).convert("L")
        # The box does not show finer strokes, and as float32 a photo takes four times its memory.
        small = _array(grey.reduce(max(1, max(grey.size) // _MAX_SIDE)))
        return _centred_by_mass(_fitted(_ink(small), box), width, height)[..., None]

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


def _fitted(ink: npt.NDArray[np.float32], box: int) -> Pixels:
    """The strokes' bounding box, uint8 [h, w], scaled with its aspect ratio until the longer side is `box`."""
    rows, columns = (np.flatnonzero((ink > _MIN_INK).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros((box, box), np.uint8)
    strokes = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = box / max(strokes.shape)
    size = [max(1, round(side * scale)) for side in reversed(strokes.shape)]
    small = np.asarray(
        Image.fromarray(strokes).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    )
    # Thin strokes fade when they are scaled down, but MNIST's reach full white.
    return np.asarray(np.clip(small / max(float(small.max()), 1e-6), 0, 1) * 255 + 0.5, np.uint8)


def _centred_by_mass(strokes: Pixels, width: int, height: int) -> Pixels:
    """Place the strokes with their centre of mass at the image's centre, as far as they stay inside: uint8 [H, W]."""
    mass = max(float(strokes.sum()), 1.0)
    canvas = np.zeros((height, width), np.uint8)
    starts = []
    for axis, room in ((0, height), (1, width)):
        size = strokes.shape[axis]
        centre = float((strokes.sum(axis=1 - axis) * (np.arange(size) + 0.5)).sum()) / mass
        starts.append(min(max(round(room / 2 - centre), 0), room - size))
    top, left = starts
    canvas[top : top + strokes.shape[0], left : left + strokes.shape[1]] = strokes
    return canvas
