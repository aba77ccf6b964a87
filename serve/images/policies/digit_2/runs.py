"""A mask -> its connected parts, by the runs of its rows.

Enters: bool [H, W]. Leaves: `Parts`. Does not know: ink, paper.

Runs are few where pixels are many, so that numpy alone is quick enough. Two runs are of one part if they touch in
neighbouring rows, diagonally too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_GAP = 2
"""Columns between the end of a row and the start of the next one, so that runs of different edges do not touch."""


@dataclass(frozen=True)
class Parts:
    """The connected parts of a mask, numbered from 0."""

    shape: tuple[int, int]
    rows: Ints
    """The row of each run."""
    starts: Ints
    """The first column of each run."""
    stops: Ints
    """The column after each run."""
    labels: Ints
    """The part of each run."""
    count: int

    def sums(self, values: npt.NDArray[np.uint8]) -> Ints:
        """The sum of uint8 [H, W] over each part."""
        width = self.shape[1]
        total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        runs = total[self.rows * width + self.stops] - total[self.rows * width + self.starts]
        return np.bincount(self.labels, runs, self.count).astype(np.int64)

    def boxes(self) -> Ints:
        """Top, bottom, left and right of each part, int64 [N, 4]; bottom and right are after the last pixel."""
        boxes = np.empty((self.count, 4), np.int64)
        for column, values, reduce, start in (
            (0, self.rows, np.minimum, self.shape[0]),
            (1, self.rows + 1, np.maximum, 0),
            (2, self.starts, np.minimum, self.shape[1]),
            (3, self.stops, np.maximum, 0),
        ):
            found = np.full(self.count, start, np.int64)
            reduce.at(found, self.labels, values)
            boxes[:, column] = found
        return boxes

    def mask(self, chosen: Mask) -> Mask:
        """The pixels of the parts that are chosen, bool [N] -> bool [H, W]."""
        height, width = self.shape
        kept = chosen[self.labels]
        steps = np.zeros(height * width + 1, np.int8)
        np.add.at(steps, self.rows[kept] * width + self.starts[kept], 1)
        np.add.at(steps, self.rows[kept] * width + self.stops[kept], -1)
        return np.asarray(np.cumsum(steps[:-1], dtype=np.int8).reshape(height, width) > 0)


def find_parts(mask: Mask) -> Parts:
    """The parts of a mask."""
    height, width = mask.shape
    stride = width + _GAP
    padded = np.zeros((height, stride), np.int8)
    padded[:, 1 : width + 1] = mask
    flips = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0)))
    starts, stops = flips[::2], flips[1::2]
    # A run touches those of the next row that end at or after its start, and start at or before its end.
    first = np.searchsorted(stops, starts + stride, "left")
    counts = np.maximum(np.searchsorted(starts, stops + stride, "right") - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    offsets = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    labels = _join(len(starts), upper, first[upper] + offsets)
    names, labels = np.unique(labels, return_inverse=True)
    rows = starts // stride
    return Parts(mask.shape, rows, starts - rows * stride - 1, stops - rows * stride - 1, labels, len(names))


def _join(count: int, one: Ints, other: Ints) -> Ints:
    """The least number of each connected group, for pairs of numbers below `count` that belong together."""
    least = np.arange(count)
    while True:
        low = np.minimum(least[one], least[other])
        joined = least.copy()
        np.minimum.at(joined, least[one], low)
        np.minimum.at(joined, least[other], low)
        while True:  # each number takes the number of its number, until it is its own
            further = joined[joined]
            if np.array_equal(further, joined):
                break
            joined = further
        if np.array_equal(joined, least):
            return joined
        least = joined
