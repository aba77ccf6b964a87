"""A fitted model, its logits for held-out images, their labels -> the same model, with truthful probabilities.

Enters: a keras.Model from `models.build`, logits float [N, K] and labels int [N]. Leaves: the model with the kernel and
the biases of its logits divided by one number, and the calibration error before and after.
Does not know: how the model was fitted, images, Keras beyond the weights of a layer.

Nets that are fitted for long are surer than they are right. Temperature scaling (Guo et al. 2017, "On Calibration of
Modern Neural Networks") fits one number, which changes no answer and has little to overfit with. The images should
be none that the weights were fitted to: a net is right about those more often than about others.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from train.evaluate import check_pairs

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

BIN_COUNT = 15
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
HALVINGS = 45  # of a range of log T of 6: below 1e-12


@dataclass(frozen=True)
class Calibration:
    """What came of calibrating: the errors are `measure_calibration_error`'s, on the images that it was fitted to."""

    temperature: float
    error_before: float
    error_after: float


class Bins(NamedTuple):
    """Images by how sure their answer is: arrays [bins]; confidence and accuracy are means, NaN in an empty bin."""

    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def calibrate(model: "keras.Model", logits: Floats, labels: Integers) -> Calibration:
    """Fit the temperature to what `model` gives before its softmax, float [N, K], and fold it into the model."""
    temperature = fit_temperature(logits, labels)
    before, after = (
        measure_calibration_error(apply_softmax(logits, divisor), labels) for divisor in (1.0, temperature)
    )
    fold_temperature(model, temperature)
    return Calibration(temperature, before, after)


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


def fold_temperature(model: "keras.Model", temperature: float) -> None:
    """Divide the weights of the layer `logits` by a number above 0: the order of a row's classes stays as it is."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"wanted a temperature above 0, found {temperature}")
    layer = model.get_layer("logits")
    layer.set_weights([weights / np.float32(temperature) for weights in layer.get_weights()])


def apply_softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Probabilities float64 [N, K] of logits [N, K] at a temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _measure_slope(logits: Floats, labels: Integers, temperature: float) -> float:
    """Of the mean negative log likelihood, by 1 / T: the mean logit under the softmax, less that of the label."""
    expected = (apply_softmax(logits, temperature) * logits).sum(axis=1)
    return float(np.mean(expected - logits[np.arange(len(labels)), labels]))
