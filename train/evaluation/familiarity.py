"""Features of training, held-out and strange images -> how familiarity is measured, and its figures.

Enters: features float [N, D], the values before a net's last layer, and labels int [N]. Leaves: a `Distance`, its
table from distance to share, the area under a ROC curve. Does not know: images, graphs, Keras.

Mahalanobis distance (Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples"): how far
features are from the nearest mean of a class, in units of the spread within classes. Features may have unit length
first (Mueller & Hein 2025). The relative distance (Ren et al. 2021) subtracts that from the mean of all classes. The
plain distance to the nearest mean of a class is the simplest way. Which one tells strangers best depends on the net.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import Floats, Integers

Array = npt.NDArray[np.float64]

LEAST_HELD_OUT = 200  # images; fewer cannot tell one in a hundred
SHRINKAGE = 0.01  # share of the mean variance that is added to each, so that no direction has almost none
LEAST_NORM = 1e-6  # of features that are scaled to unit length
SHARES = (
    *(0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.012, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08),
    *(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)
"""The table's shares between 0 and 1. They are dense where thresholds are set."""
BEYOND = 2.0
"""The distance, in multiples of the largest of a held-out image, from which the share is 0."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to measure a distance."""

    is_unit: bool
    """Whether features are scaled to unit length first."""
    is_whitened: bool
    """Whether distances are in units of the spread within classes."""
    is_relative: bool
    """Whether the distance from the mean of all classes is subtracted."""


WAYS: Mapping[str, Way] = {
    "Mahalanobis": Way(is_unit=False, is_whitened=True, is_relative=False),
    "Mahalanobis, unit length": Way(is_unit=True, is_whitened=True, is_relative=False),
    "relative Mahalanobis": Way(is_unit=False, is_whitened=True, is_relative=True),
    "relative Mahalanobis, unit length": Way(is_unit=True, is_whitened=True, is_relative=True),
    "nearest class mean": Way(is_unit=False, is_whitened=False, is_relative=False),
    "nearest class mean, unit length": Way(is_unit=True, is_whitened=False, is_relative=False),
}


@dataclass(frozen=True)
class Distance:
    """The squared distance of features x: the least |W (x - c) - m|^2 over the means m, less |B (x - c)|^2 if any."""

    way: Way
    centre: Array
    """c, [D]."""
    whitening: Array
    """W, transposed, [D, D]."""
    means: Array
    """m, the mean of each class after whitening, [K, D]."""
    background: Array | None
    """B, transposed, [D, D]."""

    def measure(self, features: Floats) -> Array:
        """The distances float64 [N] of features [N, D]."""
        centred = scale(features, self.way) - self.centre
        white = centred @ self.whitening
        to_means = (white**2).sum(axis=1, keepdims=True) - 2 * white @ self.means.T + (self.means**2).sum(axis=1)
        nearest = to_means.min(axis=1)
        return np.asarray(nearest if self.background is None else nearest - ((centred @ self.background) ** 2).sum(1))


@dataclass(frozen=True)
class Table:
    """From distance to share, linear between the knots: float64 [M] both, distances rising, shares falling from 1."""

    distances: Array
    shares: Array

    def look_up(self, distances: Array) -> Array:
        """The familiarity of each distance, from 0 to 1."""
        return np.asarray(np.interp(distances, self.distances, self.shares))


def scale(features: Floats, way: Way) -> Array:
    """Features float64 [N, D], of unit length if the way says so."""
    values = features.astype(np.float64)
    if not way.is_unit:
        return values
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), LEAST_NORM))


def fit_distance(features: Floats, labels: Integers, way: Way) -> Distance:
    """Fit a way to training features [N, D] of labels [N]. Raises ValueError if the features say nothing."""
    values = scale(features, way)
    classes = np.unique(labels)
    centre = values.mean(axis=0)
    means = np.stack([values[labels == each].mean(axis=0) for each in classes])
    within = values - means[np.searchsorted(classes, labels)]
    whitening = invert_root(within) if way.is_whitened else np.eye(len(centre))
    background = invert_root(values - centre) if way.is_relative else None
    return Distance(way, centre, whitening, (means - centre) @ whitening, background)


def invert_root(centred: Array) -> Array:
    """A matrix [D, D] that gives centred values [N, D] the unit as covariance, on its right."""
    covariance = centred.T @ centred / len(centred)
    mean_variance = float(np.trace(covariance)) / len(covariance)
    if not mean_variance > 0:
        raise ValueError("wanted features that differ between images, found the same for all")
    root = np.linalg.cholesky(covariance + SHRINKAGE * mean_variance * np.eye(len(covariance)))
    return np.asarray(np.linalg.inv(root).T)


def fit_table(held_out: Array) -> Table:
    """The table of held-out distances [N]: the share of them that are larger, and 0 from BEYOND the largest."""
    quantiles = np.quantile(held_out, [1 - share for share in SHARES[::-1]])
    least, most = float(held_out.min()), float(held_out.max())
    last = most + (BEYOND - 1) * max(most - least, float(np.finfo(np.float32).eps))
    knots = np.array([least, *quantiles, most, last])
    shares = np.array([1.0, *SHARES[::-1], 1 / (len(held_out) + 1), 0.0])
    shares = np.minimum.accumulate(shares)  # of few images, the last quantile's share is below 1 in N
    rising = np.concatenate([[True], np.diff(knots) > np.abs(knots[1:]) * np.finfo(np.float32).eps])
    if rising.sum() < len(SHARES) // 2:
        raise ValueError("wanted held-out images at different distances, found many at the same")
    return Table(knots[rising], shares[rising])


def measure_roc_auc(held_out: Floats, strangers: Floats) -> float:
    """The area under the ROC curve: the share of pairs in which the stranger has the larger value; a tie is half."""
    order = np.sort(held_out)
    below = np.searchsorted(order, strangers, side="left")
    up_to = np.searchsorted(order, strangers, side="right")
    return float((below + up_to).mean() / 2 / len(held_out))


def choose_way(fitted: tuple[Floats, Integers], held_out: Floats, strangers: Sequence[Floats]) -> tuple[str, Distance]:
    """The way with the largest mean area under the ROC curve over the kinds of strangers, and its distance."""

    def measure_mean(distance: Distance) -> float:
        known = distance.measure(held_out)
        return float(np.mean([measure_roc_auc(known, distance.measure(each)) for each in strangers]))

    distances = {name: fit_distance(*fitted, way) for name, way in WAYS.items()}
    best = max(distances, key=lambda name: measure_mean(distances[name]))
    return best, distances[best]
