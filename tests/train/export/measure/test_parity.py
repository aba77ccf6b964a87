"""train.export.measure.parity: which differences between two models pass, also between sure answers."""

import numpy as np
import pytest

from train.export.measure.parity import (
    LARGEST_DIFFERENCE,
    Parity,
    ParityFailed,
    find_limit,
    measure_parity,
    require_few_changes,
    require_parity,
)


def test_rounding_that_changes_answers_is_refused() -> None:
    require_few_changes(Parity(0.01, changed_classes=2, image_count=1000))
    with pytest.raises(ParityFailed, match=r"at most 0\.2% of the images, found 3 in 1000; nothing was written"):
        require_few_changes(Parity(0.01, changed_classes=3, image_count=1000))


def test_another_top_class_counts_unless_the_two_are_tied() -> None:
    expected = np.array([[0.6, 0.4], [0.500006, 0.499994], [0.49, 0.51]])
    found = np.array([[0.4, 0.6], [0.499999, 0.500001], [0.49, 0.51]])
    parity = measure_parity(expected, found)
    assert (parity.changed_classes, parity.image_count) == (1, 3)
    assert parity.largest_difference == pytest.approx(0.2)


@pytest.mark.parametrize("parity", [Parity(2e-5, 0, 10), Parity(0.0, 1, 10), Parity(float("nan"), 0, 10)])
def test_a_difference_a_changed_class_or_a_nan_fails_parity(parity: Parity) -> None:
    with pytest.raises(ParityFailed):
        require_parity(parity)


def test_the_limit_of_a_foreign_model_is_that_of_our_own_if_no_answer_is_sure() -> None:
    assert find_limit(np.array([[0.4, 0.6], [0.5, 0.5]])) == LARGEST_DIFFERENCE


def test_the_limit_of_a_foreign_model_grows_with_the_spread_of_its_logits() -> None:
    logits = np.array([[0.0, 3.0, 20.0], [1.0, 0.0, 0.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert find_limit(probabilities) == pytest.approx(20 * LARGEST_DIFFERENCE)


def test_a_probability_of_zero_leaves_the_limit_finite() -> None:
    assert find_limit(np.array([[0.0, 1.0]], np.float32)) < 1e-3
