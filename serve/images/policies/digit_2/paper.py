"""Grey levels -> how much ink there is at each pixel, whatever the paper's level, the light, and which is darker.

Enters: uint8 [H, W]. Leaves: uint8 [H, W]: the paper's level, or the ink, 0 for paper and up to 255.
Does not know: parts, rulings.

The paper under a stroke is what is around it: the least of the greatest levels of all squares that hold a pixel. A
square is wider than a stroke, so that strokes are filled in. The edge of a shadow stays where it is, for squares fit on
both of its sides. This is the closing of mathematical morphology (Serra 1982).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.uint8]
_Pick = Callable[[Levels, Levels], Levels]

_SQUARE = 0.28
"""Side of the squares, as a share of the image's shorter side. Strokes of a marker are narrower."""
_NEAR = 0.12
"""Distance around a pixel, as a share of the shorter side, in which ink and paper are compared."""
_LEAST_RANGE = 12
"""Levels between the darkest and the lightest near a pixel, below which it says nothing of what is ink."""
_PAPER_SHARE = 0.42
"""Share of light pixels near strokes above which the paper is light. Both are about half beside a desk or a shadow."""
_DIM = 48
"""The least level of paper whose light is made up for. The grain of a dark desk is not raised to ink."""


def is_ink_dark(levels: Levels) -> bool:
    """Whether the ink is darker than the paper: near strokes, more pixels are paper than ink."""
    reach = max(1, round(_NEAR * min(levels.shape)))
    low, high = (_around(levels, reach, pick) for pick in (np.minimum, np.maximum))
    spread = high - low
    tells = spread >= max(_LEAST_RANGE, int(spread.max()) // 3)
    light = (levels - low > spread >> 1) & tells
    return int(light.sum()) >= _PAPER_SHARE * int(tells.sum())


def find_paper(levels: Levels) -> Levels:
    """The level of the paper at each pixel for ink that is darker; never below the pixel's own.

    Squares reach half their side over the edges, where the outermost pixels go on.
    """
    side = max(3, round(_SQUARE * min(levels.shape)))
    reach = side // 2
    rest = side - 1 - reach
    found = pad_edges(levels, reach, reach)
    for axis in (0, 1):
        found = _over(found, side, axis, np.maximum)
    wide = np.full((found.shape[0] + 2 * rest, found.shape[1] + 2 * rest), 255, np.uint8)
    wide[rest : rest + found.shape[0], rest : rest + found.shape[1]] = found
    for axis in (0, 1):
        wide = _over(wide, side, axis, np.minimum)
    return wide


def measure_ink(levels: Levels, paper: Levels) -> Levels:
    """The share of the paper's light that is missing at each pixel; 255 is all of it."""
    missing = (paper - levels).astype(np.uint16) * np.uint16(255)
    return np.asarray(missing // np.maximum(paper, _DIM), np.uint8)


def pad_edges(values: Levels, down: int, across: int) -> Levels:
    """Repeat the outermost rows and columns outwards. `np.pad` takes longer than all that is done here."""
    height, width = values.shape
    padded = np.empty((height + 2 * down, width + 2 * across), values.dtype)
    padded[down : down + height, across : across + width] = values
    padded[:down, across : across + width] = values[0]
    padded[down + height :, across : across + width] = values[-1]
    padded[:, :across] = padded[:, across : across + 1]
    padded[:, across + width :] = padded[:, across + width - 1 : across + width]
    return padded


def _around(levels: Levels, reach: int, pick: _Pick) -> Levels:
    """The least or greatest level within `reach` of each pixel."""
    found = pad_edges(levels, reach, reach)
    for axis in (0, 1):
        found = _over(found, 2 * reach + 1, axis, pick)
    return found


def _over(levels: Levels, length: int, axis: int, pick: _Pick) -> Levels:
    """The least or greatest of each `length` pixels in a row along an axis, which is shorter by `length` - 1 then."""
    done = 1
    while done < length:
        step = min(done, length - done)
        size = levels.shape[axis]
        first, second = slice(0, size - step), slice(step, size)
        levels = pick(levels[first], levels[second]) if axis == 0 else pick(levels[:, first], levels[:, second])
        done += step
    return levels
