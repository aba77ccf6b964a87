"""The familiarity that two nets give to held-out and strange images -> how it becomes one number of a cascade.

Enters: familiarity float [N] of both nets, and which images the second net was asked about. Leaves: a
`JointFamiliarity`, the way with its table. Does not know: nets, images, ONNX (`export/passes/cascade.py` has the rule
in a graph).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from train.evaluation.familiarity import Table, fit_table, measure_roc_auc
from train.evaluation.metrics import Floats

LAST, LEAST, PRODUCT = "that of the net that was asked last", "the least of both", "the product of both"
WAYS = (LAST, LEAST, PRODUCT)


class Seen(NamedTuple):
    """What both nets say about the same images."""

    first: Floats
    """Familiarity float [N]."""
    second: Floats
    """Familiarity float [N]; that of images of which the first net is sure does not count."""
    is_asked: npt.NDArray[np.bool_]
    """Of which images the first net is unsure, bool [N]."""


@dataclass(frozen=True)
class JointFamiliarity:
    """One of WAYS, and what makes a share of held-out images of its values again."""

    way: str
    table: Table
    """From 1 less a value to the share."""


def choose_joint_familiarity(held_out: Seen, strangers: Sequence[Seen]) -> JointFamiliarity:
    """The way with the largest mean area under the ROC curve over the kinds of strangers.

    Raises ValueError if too many held-out images are equally familiar.
    """

    def measure_mean(way: str) -> float:
        known = -combine(held_out, way)
        return float(np.mean([measure_roc_auc(known, -combine(each, way)) for each in strangers]))

    way = max(WAYS, key=measure_mean)
    return JointFamiliarity(way, fit_table(1 - combine(held_out, way).astype(np.float64)))


def combine(seen: Seen, way: str) -> Floats:
    """The values float [N] of a way, not yet shares: the first net's where the second was not asked."""
    both = {LAST: seen.second, LEAST: np.minimum(seen.first, seen.second), PRODUCT: seen.first * seen.second}[way]
    return np.where(seen.is_asked, both, seen.first)
