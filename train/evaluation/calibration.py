"""Logits for held-out images, and their labels -> how the logits become calibrated probabilities.

Enters: logits float [N, K] and labels int [N]. Leaves: a `Calibration`, and the calibration error of probabilities.
Does not know: how the model was fitted, images, Keras (`nets/build.py` puts a calibration into a model).

A net that is fitted for long is more confident than it is accurate. Temperature scaling (Guo et al. 2017, "On
Calibration of Modern Neural Networks") fits a single number, which changes no answer and hardly overfits. It needs
images that the weights were not fitted to, because a net is right about its training images more often.

A net that is trained on smoothed labels (Szegedy et al. 2016) predicts smoothed labels, with a share for every class. A
temperature that corrects the confident answers makes the others too confident. So the share is subtracted first. Both
steps are the same for all images and keep the order of the classes.

A teacher's softened answers smooth the labels, too, by a share that nobody chose. For such a net the share is fitted.

Four alternatives were tried on four nets of `cifar10`, fitted to one half of the held-out images and measured on the
other. None was better for three of the nets. Two changed the temperature: mean confidence equal to accuracy (Clarté et
al. 2023), and a slope. The others were a floor under all probabilities, and a fitted amount of smoothing.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import Floats, Integers, check_pairs

BIN_COUNT = 15  # as in Guo et al. 2017
CALIBRATION_LEAST = 1000  # held-out images; with fewer, the temperature would depend on chance
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
HALVINGS = 45  # steps of a bisection, which narrow a range of 6 in log T to less than 1e-12
# The share of a probability that is kept at least when smoothing is subtracted. Among 0.02 to 0.5 it gave two nets of
# `cifar10` the lowest mean negative log-likelihood on held-out images.
LEAST_LEFT = 0.1
SMOOTHINGS = np.linspace(0, 0.5, 51)
"""Among which the smoothing by a teacher is sought."""


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities. The errors were measured on the images that it was fitted to."""

    temperature: float
    error_before: float
    error_after: float
    smoothing: float = 0.0
    """The label smoothing of the training, or the fitted one that has the effect of its teacher, from 0 to 1."""


class Bins(NamedTuple):
    """Images by the confidence of their answer: arrays [bins] with counts and means. A mean is NaN in an empty bin."""

    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def calibrate(logits: Floats, labels: Integers, smoothing: float | None = 0.0) -> Calibration:
    """Fit a calibration to logits float [N, K] of a net trained with this label smoothing. Raises ValueError.

    With None the smoothing is fitted, too.
    """
    if smoothing is None:
        smoothing = fit_smoothing(logits, labels)
    plain = undo_smoothing(logits, smoothing)
    temperature = fit_temperature(plain, labels)
    before, after = apply_softmax(logits), apply_softmax(plain, temperature)
    return Calibration(
        temperature, measure_calibration_error(before, labels), measure_calibration_error(after, labels), smoothing
    )


def fit_smoothing(logits: Floats, labels: Integers) -> float:
    """The one of SMOOTHINGS that gives the lowest mean negative log-likelihood, each with its own temperature.

    Raises ValueError.
    """

    def measure_loss(smoothing: float) -> float:
        plain = undo_smoothing(logits, smoothing)
        shares = apply_softmax(plain, fit_temperature(plain, labels))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(shares, np.finfo(np.float64).tiny)).mean())

    return min(map(float, SMOOTHINGS), key=measure_loss)


def undo_smoothing(logits: Floats, smoothing: float) -> Floats:
    """Logits float [N, K] for smoothed labels -> logits float [N, K] for the labels themselves."""
    if not smoothing:
        return logits
    shares = apply_softmax(logits)
    return np.asarray(np.log(np.maximum(shares - smoothing / logits.shape[1], LEAST_LEFT * shares)))


def undo_calibration(probabilities: Floats, temperature: float, smoothing: float = 0.0) -> npt.NDArray[np.float64]:
    """Calibrated probabilities float [N, K] -> the probabilities float64 [N, K] before their calibration.

    `undo_smoothing` lost a factor of each row. A bisection finds it, because the row summed to 1 before.
    """
    powers = np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny) ** temperature
    powers /= powers.sum(axis=1, keepdims=True)
    if not smoothing:
        return np.asarray(powers)
    added = smoothing / powers.shape[1]
    low, high = np.zeros((len(powers), 1)), np.ones((len(powers), 1))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_more = np.minimum(middle * powers + added, middle * powers / LEAST_LEFT).sum(axis=1, keepdims=True) > 1
        low, high = np.where(is_more, low, middle), np.where(is_more, middle, high)
    return np.asarray(np.minimum(low * powers + added, low * powers / LEAST_LEFT))


def measure_calibration_error(probabilities: Floats, labels: Integers, bins: int = BIN_COUNT) -> float:
    """The expected calibration error, 0 to 1, of the highest value in each row of float [N, K]. Raises ValueError."""
    found = bin_confidences(probabilities, labels, bins)
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(found.counts * gaps) / len(labels))


def bin_confidences(probabilities: Floats, labels: Integers, bins: int = BIN_COUNT) -> Bins:
    """Count the rows of float [N, K] by their highest value, in bins of equal width: (0, 1/bins], and so on."""
    check_pairs(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    chosen = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # a softmax may exceed 1 by 1e-7
    counts = np.bincount(chosen, minlength=bins)
    sums = (np.bincount(chosen, weights, minlength=bins) for weights in (confidence, right))
    return Bins(counts, *(np.divide(each, counts, out=np.full(bins, np.nan), where=counts > 0) for each in sums))


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """The temperature T that gives softmax(logits / T) the lowest mean negative log-likelihood. Raises ValueError.

    The likelihood of labels int [N] under logits float [N, K] is convex in 1 / T, so a bisection by its slope finds T.
    The result stays between LOWEST_TEMPERATURE and HIGHEST_TEMPERATURE: for logits that are always right it would be 0.
    """
    check_pairs(logits, labels)
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    low, high = np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_too_confident = _measure_slope(logits, labels, np.exp(middle)) > 0
        low, high = (middle, high) if is_too_confident else (low, middle)
    return float(np.exp((low + high) / 2))


def apply_softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Logits float [N, K] at a temperature -> probabilities float64 [N, K]."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _measure_slope(logits: Floats, labels: Integers, temperature: float) -> float:
    """The derivative of the mean negative log-likelihood by 1 / T: expected logit minus the label's logit."""
    expected = (apply_softmax(logits, temperature) * logits).sum(axis=1)
    return float(np.mean(expected - logits[np.arange(len(labels)), labels]))
