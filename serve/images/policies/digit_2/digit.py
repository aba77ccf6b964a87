"""The strokes of a page -> those of the digit: parts that are near belong together, specks go.

Enters: uint8 ink [H, W] and the mask of strokes. Leaves: the mask of what is kept, and the number of separate groups.
Does not know: paper, rulings, models.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serve.images.policies.digit_2.runs import Ints, find_parts

Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]

_SPECK = 0.03
"""Ink of a speck, as a share of the greatest part's."""
_NEAR = 0.3
"""Distance of parts that are one digit, as a share of the longer side of what is found of it."""
_SECOND = 0.2
"""Ink of another digit, as a share of the greatest part's."""
_MOST_PARTS = 32
"""The greatest parts, which alone are looked at: noise may have thousands."""


class Found(NamedTuple):
    """The strokes that are kept."""

    mask: Mask
    groups: int
    """Groups of parts that lie apart: 1 for a digit, 0 for an empty page."""


def find_digit(ink: Levels, is_stroke: Mask) -> Found:
    """The greatest part with what lies near it, and other groups that are as large as a digit."""
    parts = find_parts(is_stroke)
    if not parts.count:
        return Found(is_stroke, 0)
    mass = parts.sums(ink)
    order = np.argsort(-mass, kind="stable")[:_MOST_PARTS]
    groups = _group(parts.boxes(), order[mass[order] > _SPECK * mass[order[0]]].tolist())
    kept = [group for group in groups if mass[group].sum() >= _SECOND * mass[order[0]]]
    chosen = np.zeros(parts.count, bool)
    for group in kept:
        chosen[group] = True
    return Found(parts.mask(chosen), len(kept))


def _group(boxes: Ints, left: list[int]) -> list[list[int]]:
    """Parts by what they are near to, beginning with the first."""
    groups = []
    while left:
        group = [left.pop(0)]
        box = boxes[group[0]]
        while near := [part for part in left if _is_near(box, boxes[part])]:
            group += near
            left = [part for part in left if part not in near]
            members = boxes[group]
            low, high = members.min(axis=0), members.max(axis=0)
            box = np.array([low[0], high[1], low[2], high[3]])
        groups.append(group)
    return groups


def _is_near(box: Ints, other: Ints) -> bool:
    down = max(other[0] - box[1], box[0] - other[1], 0)
    across = max(other[2] - box[3], box[2] - other[3], 0)
    return bool(np.hypot(down, across) <= _NEAR * max(box[1] - box[0], box[3] - box[2]))
