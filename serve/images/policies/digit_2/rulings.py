"""A page's ink -> where straight lines run across it: rulings, squares, a border line.

Enters: uint8 ink [H, W] and the mask of what is ink. Leaves: bool [H, W], true where a line is and no stroke.
Does not know: parts, digits.

A line covers nearly the whole width or height, is thin, and may be tilted by a few degrees. A stroke that crosses it
stays: it has more ink than the line, or it goes on above and below.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_STRIPS = 16
"""Parts of the width in each of which a tilted line is taken as level."""
_TILT = 0.06
"""The greatest slope of a line, about three and a half degrees."""
_COVERED = 0.8
"""Share of the width that a line covers."""
_THICK = 0.04
"""The greatest thickness of a line, as a share of the shorter side."""
_MORE = 2.0
"""The ink of a stroke on a line is at least this many times that of the line alone."""


class _Line(NamedTuple):
    """The pixels of one line along the page, int64 [N, W] each: rows, and whether they are on the page."""

    rows: Ints
    inside: Mask


def find_rulings(ink: Levels, is_ink: Mask) -> Mask:
    """The pixels of all lines along and down the page."""
    along, down = _find_lines(is_ink), _find_lines(np.ascontiguousarray(is_ink.T))
    found = np.zeros_like(is_ink)
    if not along and not down:
        return found
    # Where lines cross each other, neither is a stroke that crosses the other.
    others = _cover(found.shape, down, is_transposed=True), _cover(found.shape, along, is_transposed=False)
    for line in along:
        _mark(found, ink, is_ink & ~others[0], line)
    for line in down:
        _mark(found.T, ink.T, (is_ink & ~others[1]).T, line)
    return found


def _find_lines(is_ink: Mask) -> list[_Line]:
    """The lines along the page, which are parallel."""
    height, width = is_ink.shape
    strips = min(_STRIPS, width)
    edges = np.arange(strips + 1) * width // strips
    lengths = np.diff(edges)
    tall = is_ink.copy()  # a line that is tilted, or on two rows in part, covers one of two rows
    tall[1:] |= is_ink[:-1]
    covered = np.add.reduceat(tall, edges[:-1], axis=1, dtype=np.float32) / lengths
    rise = min(int(_TILT * width), height - 1)
    shifts = np.rint(np.arange(-rise, rise + 1)[:, None] * ((edges[1:] + edges[:-1]) / (2 * width) - 0.5))
    shifts = shifts.astype(np.int64)  # rows by which each tilt moves each strip
    padded = np.zeros((height + 2 * rise, strips), np.float32)
    padded[rise : rise + height] = covered
    shares = np.zeros((len(shifts), height), np.float32)
    for strip in range(strips):
        shares += padded[shifts[:, strip : strip + 1] + np.arange(rise, rise + height), strip]
    shares /= strips
    if shares.max() < _COVERED:
        return []
    tilt = int(np.maximum(shares - _COVERED, 0).sum(axis=1).argmax())
    shift = np.repeat(shifts[tilt], lengths)
    most = 1 + max(2, round(_THICK * min(height, width)))
    spans = [span for span in _spans(shares[tilt] >= _COVERED) if span[1] - span[0] <= most]
    bands = [np.arange(start - 1, stop)[:, None] + shift for start, stop in spans]
    return [_Line(np.clip(rows, 0, height - 1), (rows >= 0) & (rows < height)) for rows in bands]


def _cover(shape: tuple[int, int], lines: list[_Line], is_transposed: bool) -> Mask:
    """All pixels of the lines."""
    found = np.zeros(shape, bool)
    turned = found.T if is_transposed else found
    for line in lines:
        turned[line.rows, np.arange(line.rows.shape[1])] |= line.inside
    return found


def _mark(found: Mask, ink: Levels, is_ink: Mask, line: _Line) -> None:
    """Mark one line but for the strokes that cross it."""
    rows, inside = line
    columns = np.arange(rows.shape[1])
    amounts = ink[rows, columns].sum(axis=0, dtype=np.int64)
    is_more = amounts > _MORE * np.median(amounts)
    above, below = (
        _widen(is_ink[np.clip(beside, 0, len(ink) - 1), columns] & on_page, len(rows))
        for beside, on_page in ((rows[0] - 1, inside[0]), (rows[-1] + 1, inside[-1]))
    )
    crosses = (_widen(is_more, 1) & is_ink[rows, columns].any(axis=0)) | (above & below)
    found[rows, columns] |= inside & ~crosses


def _widen(flags: Mask, reach: int) -> Mask:
    """True also up to `reach` places beside what is true."""
    near = np.flatnonzero(flags)
    counts = np.zeros(len(flags) + 1, np.int64)
    np.add.at(counts, np.maximum(near - reach, 0), 1)
    np.add.at(counts, np.minimum(near + reach + 1, len(flags)), -1)
    return np.asarray(np.cumsum(counts[:-1]) > 0)


def _spans(flags: Mask) -> list[tuple[int, int]]:
    """Start and stop of each run of true."""
    steps = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True))
