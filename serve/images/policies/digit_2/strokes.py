"""Grey levels -> the strokes of a digit on a page.

Enters: uint8 levels [H, W], upright. Leaves: `Strokes`. Does not know: image files, the form that a model takes.
"""

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.images.policies.digit_2.digit import find_digit
from serve.images.policies.digit_2.frames import find_surroundings
from serve.images.policies.digit_2.paper import find_paper, is_ink_dark, measure_ink, pad_edges
from serve.images.policies.digit_2.rulings import find_rulings

Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float32]
AnyLevels = TypeVar("AnyLevels", Levels, Mask)

_NOISE = 5.0
"""Standard deviations of the paper's noise above which a pixel may be ink."""
_FAINT = 8
"""Ink, of 255, above which a pixel may be ink however even the paper is."""
_SHARE = 0.18
"""Share of the strongest ink above which a pixel may be ink. Fainter is a smear, ringing of a JPEG, or a shadow."""
_STRONGEST = 0.995
"""Share of pixels whose ink is not the strongest."""
_WIDER = 0.9
"""Share of the level that divides strokes from the rest best, so that the rims of thin strokes belong to them."""
_CORE = 0.6
"""Share of the strokes' pixels that are paler than full ink."""
_BLANK_NOISE = 8.0
"""Standard deviations of the paper's noise that a stroke differs from it at least. An empty page has less."""
_BLANK = 12
"""Ink, of 255, that a stroke has at least."""


class Strokes(NamedTuple):
    """What was found on a page."""

    is_dark: bool
    """Whether the ink is darker than the paper. If not, all that follows is of the inverted levels."""
    paper: Levels
    """The level of the paper at each pixel."""
    ink: Levels
    """Ink at each pixel, of all that is on the page: 0 to 255."""
    offset: int
    """Ink of bare paper, by its noise."""
    least: int
    """Ink above which a pixel is of a stroke."""
    mask: Mask
    """The digit's pixels; none on an empty page."""
    near: Mask
    """The digit's pixels and those beside it, where its soft edges are."""
    groups: int
    """Groups of strokes that lie apart: 0 for an empty page."""


def find_strokes(levels: Levels) -> Strokes:
    """Tell ink from paper, and the digit from what is around it and across the page."""
    is_dark = is_ink_dark(levels)
    levels = levels if is_dark else 255 - levels
    paper = find_paper(levels)
    ink = measure_ink(levels, paper)
    counts = np.bincount(ink.ravel(), minlength=256)
    offset = int(np.convolve(counts[:100], np.ones(5), "same").argmax())
    noise = _measure_noise(levels)
    is_ink = ink > max(offset + _NOISE * noise, offset + _FAINT, _SHARE * _quantile(counts, _STRONGEST))
    lines = find_rulings(ink, is_ink)
    on_page = is_ink & ~lines
    on_page &= ~find_surroundings(ink, on_page)
    counts = np.bincount(ink[on_page], minlength=256)
    least = int(_WIDER * _split(counts))
    mask, groups = find_digit(ink, on_page & (ink > least))
    if not groups or _full(ink[mask]) - offset < max(_BLANK, _BLANK_NOISE * noise):
        mask, groups = np.zeros_like(mask), 0
    near = _widen(mask) & ~(lines & ~mask)
    return Strokes(is_dark, paper, ink, offset, least, mask, near, groups)


def soften(found: Strokes, grey: Image.Image, factor: int, least_side: int) -> Shares:
    """The digit's strokes from 0 to 1, with soft edges, and nothing else: float32 [H, W].

    `grey` is the image, `factor` times as large as the levels in which the strokes were found. It is looked at only
    where they are, and if they have fewer than `least_side` pixels along their longer side.
    """
    rows, columns = (np.flatnonzero(found.near.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros((1, 1), np.float32)
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    ink, near = found.ink[part], found.near[part]
    if factor > 1 and max(ink.shape) < least_side:
        corner = columns[0] * factor, rows[0] * factor
        size = min(ink.shape[1] * factor, grey.width - corner[0]), min(ink.shape[0] * factor, grey.height - corner[1])
        levels = np.asarray(grey.crop((*corner, corner[0] + size[0], corner[1] + size[1])))
        levels = levels if found.is_dark else 255 - levels
        paper = _enlarge(found.paper[part], factor)[: size[1], : size[0]]
        near = _enlarge(near, factor)[: size[1], : size[0]]
        ink = measure_ink(levels, np.maximum(paper, levels))
    full = max(_full(ink[near & (ink > found.least)]), found.offset + 1)
    shares = (ink.astype(np.float32) - found.offset) / (full - found.offset)
    return np.asarray(np.clip(shares, 0, 1) * near, np.float32)


def _enlarge(values: AnyLevels, factor: int) -> AnyLevels:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _full(ink: Levels) -> int:
    """The ink that counts as full among those of the strokes' pixels."""
    return _quantile(np.bincount(ink, minlength=256), _CORE)


def _measure_noise(levels: Levels) -> float:
    """Standard deviation of the noise, as ink: from the median difference of neighbours, in which strokes are few."""
    steps = np.abs(np.diff(levels.astype(np.int16), axis=1)) if levels.shape[1] > 1 else np.zeros(1)
    return 1.05 * float(np.median(steps)) * 255 / max(float(np.median(levels)), 1.0)


def _quantile(counts: Counts, share: float) -> int:
    """The least level with at least this share of the counted pixels at or below it."""
    totals = np.cumsum(counts)
    return int(np.searchsorted(totals, share * totals[-1]))


def _split(counts: Counts) -> int:
    """The level that divides counted pixels into two classes that differ most (Otsu 1979)."""
    below = np.cumsum(counts).astype(np.float64)
    sums = np.cumsum(counts * np.arange(256)).astype(np.float64)
    above = below[-1] - below
    valid = (below > 0) & (above > 0)
    if not valid.any():
        return -1
    means = sums[valid] / below[valid] - (sums[-1] - sums[valid]) / above[valid]
    between = np.zeros(256)
    between[valid] = below[valid] * above[valid] * means**2
    return int(between.argmax())


def _widen(mask: Mask) -> Mask:
    """The mask and the pixels beside it."""
    padded = pad_edges(mask.view(np.uint8), 1, 1)
    tall = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:], bool)
