"""A page's ink -> what is around the page and not on it: a frame, a desk, a shadow in a corner, a border line.

Enters: uint8 ink [H, W] and the mask of what is ink. Leaves: bool [H, W], true for what is around.
Does not know: rulings, digits.
"""

import numpy as np
import numpy.typing as npt

from serve.images.policies.digit_2.runs import Parts, find_parts

Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]

_FULL = 0.85
"""Share of ink in an outermost row that belongs to a frame."""
_FRAMED_SIDES = 3
"""Sides on which a frame is: a digit that fills the picture may cover one of them."""
_ALONG_EDGE = 0.5
"""Share of an edge that a part covers if it is a desk or the rest of a frame."""
_LESS_ALONG_EDGE = 0.12
"""As above, for a part that is paler or not much larger than one that touches no edge: of a shadow or a desk."""
_PALER = 0.8
"""Mean ink of a part that is paler, as a share of that of the strongest part inside."""
_LARGER = 2.0
"""Ink of a part that is much larger, as a multiple of that of the greatest part inside."""
_AROUND = 0.85
"""Share of the page's height and width that a border line spans."""
_HOLLOW = 0.15
"""Share of its box that a border line covers at most."""
_LEAST_REST = 0.002
"""Share of the page that has to be ink beside what is around. Else the digit itself fills the picture."""


def find_surroundings(ink: Levels, is_ink: Mask) -> Mask:
    """What is ink and around the page, as far as something is left on it."""
    around = np.ones_like(is_ink)
    page = _find_page(is_ink)
    around[page] = False
    parts = find_parts(is_ink[page])
    if parts.count:
        around[page] = parts.mask(_find_framing(parts, ink[page]))
    left = int((is_ink & ~around).sum())
    return around if left >= _LEAST_REST * is_ink.size else np.zeros_like(is_ink)


def _find_page(is_ink: Mask) -> tuple[slice, slice]:
    """The image without outermost rows and columns that are ink, if there are some on most sides."""
    rows, columns = is_ink.mean(axis=1) >= _FULL, is_ink.mean(axis=0) >= _FULL
    top, bottom, left, right = (_lead(flags) for flags in (rows, rows[::-1], columns, columns[::-1]))
    if sum(depth > 0 for depth in (top, bottom, left, right)) < _FRAMED_SIDES:
        return slice(None), slice(None)
    return slice(top, len(rows) - bottom), slice(left, len(columns) - right)


def _lead(flags: Mask) -> int:
    """How many flags at the start are true."""
    return len(flags) if flags.all() else int(flags.argmin())


def _find_framing(parts: Parts, ink: Levels) -> Mask:
    """Which parts run along an edge, or are hollow and around the whole page."""
    height, width = parts.shape
    lengths = parts.stops - parts.starts
    on_edges = (
        (lengths * (parts.rows == 0), width),
        (lengths * (parts.rows == height - 1), width),
        (parts.starts == 0, height),
        (parts.stops == width, height),
    )
    along = np.max([np.bincount(parts.labels, each, parts.count) / side for each, side in on_edges], axis=0)
    areas = np.bincount(parts.labels, lengths, parts.count)
    sums = parts.sums(ink)
    means = sums / areas
    inner = (along == 0) & (areas >= _LEAST_REST * ink.size)
    is_less = np.zeros(parts.count, bool)
    if inner.any():
        is_less = (means < _PALER * means[inner].max()) | (sums < _LARGER * sums[inner].max())
    boxes = parts.boxes()
    sizes = np.stack([boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]], axis=1)
    hollow = areas <= _HOLLOW * sizes.prod(axis=1)
    is_around = (sizes >= _AROUND * np.array(parts.shape)).all(axis=1) & hollow
    return np.asarray((along >= _ALONG_EDGE) | (is_less & (along >= _LESS_ALONG_EDGE)) | is_around)
