"""Answers of two nets to held-out images -> which images the second net is asked about, and what that gains.

Enters: probabilities float [N, K] of both nets, true labels. Leaves: a `Cascade` with its threshold.
Does not know: nets, images, ONNX (`export/passes/cascade.py` has the same rule in a graph).
"""

from dataclasses import dataclass

import numpy as np

from train.evaluation.calibration import measure_calibration_error
from train.evaluation.metrics import Floats, Integers, measure_accuracy

POWERS = tuple(1 + step / 20 for step in range(21))


@dataclass(frozen=True)
class Cascade:
    """When the second net is asked, and what held-out images gain by it."""

    below: float
    """Highest probability of the first net's answer below which the second net is asked."""
    weight: float
    """Share of the second net's probabilities in the mean with the first's."""
    power: float
    """What the mean is raised to; of POWERS the one with the least calibration error on held-out images."""
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

    def measure_error(power: float) -> float:
        return measure_calibration_error(answer_by_both(first, second, below, weight, power), labels)

    power = min(POWERS, key=measure_error)
    answers = (first, second, answer_by_both(first, second, below, weight, power))
    of_first, of_second, of_both = (measure_accuracy(each, labels) for each in answers)
    return Cascade(below, weight, power, float(np.mean(confidence < below)), of_first, of_second, of_both)


def answer_by_both(first: Floats, second: Floats, below: float, weight: float, power: float) -> Floats:
    """Probabilities float [N, K]: where the highest of the first is below the threshold, the mean of both.

    The mean of calibrated answers is less sure than it is right (Rahaman & Thiery 2021), so it is raised to a power.
    """
    raised = ((1 - weight) * first + weight * second) ** power
    return np.where(first.max(axis=1, keepdims=True) < below, raised / raised.sum(axis=1, keepdims=True), first)
