"""Answers of two nets to held-out images -> which images the second net is asked about, and what that gains.

Enters: probabilities float [N, K] of both nets, true labels. Leaves: a `Cascade` with its threshold.
Does not know: nets, images, ONNX (`export/passes/cascade.py` has the same rule in a graph).
"""

from dataclasses import dataclass

import numpy as np

from train.evaluation.metrics import Floats, Integers, measure_accuracy


@dataclass(frozen=True)
class Cascade:
    """When the second net is asked, and what held-out images gain by it."""

    below: float
    """Highest probability of the first net's answer below which the second net is asked."""
    weight: float
    """Share of the second net's probabilities in the mean with the first's."""
    share: float
    """Share of the held-out images that the second net was asked about."""
    accuracy_of_first: float
    """Accuracy on held-out images of the first net alone."""
    accuracy_of_second: float
    """Accuracy on held-out images of the second net alone."""
    accuracy: float
    """Accuracy on held-out images of both together."""


def choose_cascade(first: Floats, second: Floats, labels: Integers, share: float, weight: float) -> Cascade:
    """The threshold by which the second net is asked about `share` of the images, those with the least sure answers."""
    confidence = first.max(axis=1)
    below = float(np.quantile(confidence, share))
    answers = (first, second, answer_by_both(first, second, below, weight))
    of_first, of_second, of_both = (measure_accuracy(each, labels) for each in answers)
    return Cascade(below, weight, float(np.mean(confidence < below)), of_first, of_second, of_both)


def answer_by_both(first: Floats, second: Floats, below: float, weight: float) -> Floats:
    """Probabilities float [N, K]: the mean of both where the highest of the first is below the threshold."""
    is_unsure = first.max(axis=1, keepdims=True) < below
    return np.where(is_unsure, (1 - weight) * first + weight * second, first)
