"""Probabilities and true labels -> figures.

Enters: probabilities float [N, K] and labels int [N]. Leaves: fractions and counts, as numbers or arrays.
Does not know: where they came from, Keras, ONNX.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]


def measure_accuracy(probabilities: Floats, labels: Integers) -> float:
    """The fraction of rows of float [N, K] whose highest value is at the label, int [N]. Raises ValueError."""
    check_pairs(probabilities, labels)
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def measure_class_accuracy(probabilities: Floats, labels: Integers) -> npt.NDArray[np.float64]:
    """Accuracy of each true class, float64 [K]; NaN for a class without images. Raises ValueError."""
    matrix = count_confusions(probabilities, labels)
    totals = matrix.sum(axis=1)
    accuracies = np.full(len(matrix), np.nan)
    np.divide(matrix.diagonal(), totals, out=accuracies, where=totals > 0)
    return accuracies


def count_confusions(probabilities: Floats, labels: Integers) -> npt.NDArray[np.int64]:
    """Confusion matrix int64 [K, K]: a row for each true class, a column for each answer. Raises ValueError."""
    check_pairs(probabilities, labels)
    matrix = np.zeros((probabilities.shape[1],) * 2, np.int64)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)
    return matrix


def check_pairs(probabilities: Floats, labels: Integers) -> None:
    """Raise ValueError if there is no row, or not one label for each row."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        found = f"{probabilities.shape} and {labels.shape}"
        raise ValueError(f"wanted probabilities or logits [N, K] and labels [N] with N > 0, found {found}")
