"""A fitted model's logits for held-out images, their labels -> how they become truthful probabilities.

Enters: logits float [N, K] and labels int [N]. Leaves: a `Calibration`, and the calibration error of probabilities.
Does not know: how the model was fitted, images, Keras (`models.complete` puts a calibration into a model).

Nets that are fitted for long are surer than they are right. Temperature scaling (Guo et al. 2017, "On Calibration of
Modern Neural Networks") fits one number, which changes no answer and has little to overfit with. The images should
be none that the weights were fitted to: a net is right about those more often than about others.

A net that was trained with smoothed labels (Szegedy et al. 2016) predicts those: a share for every class, however sure
it may be. The temperature that makes up for that in its sure answers makes the others too sure. What was added to the
labels is therefore subtracted first. Either step is the same for all images, and keeps the order of a row's classes.

Tried on halves of the held-out images of four nets of `cifar10`, fitted to one half and measured on the other: the
temperature at which mean confidence is the accuracy (Clarté et al. 2023); a second number, be it a floor under all
probabilities, how much smoothing to undo, or a slope of the temperature. None was better for three of the four. Nor
are the 2,000 images held out easier by themselves than the others, though these nets answer them better than the test
set: the net of `cifar10-half-hour`, fitted to 20,000 others for six epochs, is right about 0.884 of them, and about
0.889 of 12,000 others that it has not seen. Weights by how hard they are would make the probabilities no more careful.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from train.evaluation.metrics import check_pairs

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

BIN_COUNT = 15
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
HALVINGS = 45  # of a range of log T of 6: below 1e-12
# What is left at least of a probability, where the net gave a class less than smoothing did. Of 0.02 to 0.5 this had
# the least mean negative log likelihood over the held-out images of two nets of `cifar10`.
LEAST_LEFT = 0.1


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities. The errors are those of the images that it was fitted to."""

    temperature: float
    error_before: float
    error_after: float
    smoothing: float = 0.0
    """Of the labels in training."""


class Bins(NamedTuple):
    """Images by how sure their answer is: arrays [bins]; confidence and accuracy are means, NaN in an empty bin."""

    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def calibrate(logits: Floats, labels: Integers, smoothing: float = 0.0) -> Calibration:
    """Fit to what a model gives before its softmax, float [N, K], after training with labels smoothed so much."""
    plain = undo_smoothing(logits, smoothing)
    temperature = fit_temperature(plain, labels)
    before, after = apply_softmax(logits), apply_softmax(plain, temperature)
    return Calibration(
        temperature, measure_calibration_error(before, labels), measure_calibration_error(after, labels), smoothing
    )


def undo_smoothing(logits: Floats, smoothing: float) -> Floats:
    """Logits float [N, K] of the labels themselves, of the logits of labels that were smoothed."""
    if not smoothing:
        return logits
    shares = apply_softmax(logits)
    return np.asarray(np.log(np.maximum(shares - smoothing / logits.shape[1], LEAST_LEFT * shares)))


def undo_calibration(probabilities: Floats, temperature: float, smoothing: float = 0.0) -> npt.NDArray[np.float64]:
    """The probabilities float64 [N, K] before a calibration, of those after it: the way back.

    `undo_smoothing` has forgotten a factor of each row. It is the one with which the row of before sums to 1.
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
    """The expected calibration error of the highest probability in each row of float [N, K], from 0 to 1."""
    found = bin_confidences(probabilities, labels, bins)
    gaps = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(found.counts * gaps) / len(labels))


def bin_confidences(probabilities: Floats, labels: Integers, bins: int = BIN_COUNT) -> Bins:
    """Count the rows of float [N, K] by their highest probability, in bins of one width: (0, 1/bins] and so on."""
    check_pairs(probabilities, labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    chosen = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # a softmax may exceed 1 by 1e-7
    counts = np.bincount(chosen, minlength=bins)
    sums = (np.bincount(chosen, weights, minlength=bins) for weights in (confidence, right))
    return Bins(counts, *(np.divide(each, counts, out=np.full(bins, np.nan), where=counts > 0) for each in sums))


def fit_temperature(logits: Floats, labels: Integers) -> float:
    """The T at which softmax(logits / T) of float [N, K] has the least mean negative log likelihood of labels [N].

    That is convex in 1 / T, so that the sign of its slope says on which side the one answer lies. It is searched
    between 0.05 and 20, and is that end where it lies beyond: logits that are always right want T = 0.
    """
    check_pairs(logits, labels)
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    low, high = np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_sure = _measure_slope(logits, labels, np.exp(middle)) > 0
        low, high = (middle, high) if too_sure else (low, middle)
    return float(np.exp((low + high) / 2))


def apply_softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Probabilities float64 [N, K] of logits [N, K] at a temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _measure_slope(logits: Floats, labels: Integers, temperature: float) -> float:
    """Of the mean negative log likelihood, by 1 / T: the mean logit under the softmax, less that of the label."""
    expected = (apply_softmax(logits, temperature) * logits).sum(axis=1)
    return float(np.mean(expected - logits[np.arange(len(labels)), labels]))
