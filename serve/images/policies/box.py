"""The form of MNIST's digits (LeCun et al. 1998): strokes fitted in a box, with their centre of mass at the centre.

Enters: strokes float32 [H, W] from 0 to 1, or uint8. Leaves: uint8. Does not know: how strokes are found.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.images.pixels import Pixels

_MIN_INK = 0.25
"""Share of the strongest stroke. Fainter pixels are paper, smears or ringing of a JPEG."""


def fit_in_box(ink: npt.NDArray[np.float32], box: int) -> Pixels:
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


def centre_by_mass(strokes: Pixels, width: int, height: int) -> Pixels:
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
