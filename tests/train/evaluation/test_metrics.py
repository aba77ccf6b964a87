"""`train.evaluation.metrics`: accuracy, accuracy of each class, confusion matrix."""

import numpy as np
import pytest

from train.evaluation.metrics import count_confusions, measure_accuracy, measure_class_accuracy

PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.4, 0.0], [0.1, 0.1, 0.8]], np.float32)
LABELS = np.array([0, 1, 1, 1])


def test_accuracy_is_the_fraction_of_rows_whose_highest_is_at_the_label() -> None:
    assert measure_accuracy(PROBABILITIES, LABELS) == 0.5


def test_class_accuracy_is_nan_for_a_class_without_images() -> None:
    np.testing.assert_array_equal(measure_class_accuracy(PROBABILITIES, LABELS), [1, 1 / 3, np.nan])


def test_confusions_have_a_row_per_true_class_and_a_column_per_answer() -> None:
    np.testing.assert_array_equal(count_confusions(PROBABILITIES, LABELS), [[1, 0, 0], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("labels", [np.array([0, 1]), np.zeros((4, 1), int)])
def test_labels_of_another_length_or_shape_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="wanted probabilities"):
        measure_accuracy(PROBABILITIES, labels)


def test_no_images_are_refused_rather_than_called_nan() -> None:
    with pytest.raises(ValueError, match="N > 0"):
        measure_accuracy(np.zeros((0, 3), np.float32), np.zeros(0, int))
