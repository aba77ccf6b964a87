"""`train.evaluation.passes.second_view`: the threshold that a share of held-out images sets, and combined logits."""

import numpy as np
import pytest

from train.evaluation.passes.second_view import choose_second_view, combine, measure_confidence


def draw_logits(count: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two views that are right about the label more often together."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count)
    views = [3.0 * np.eye(10)[labels] + random.normal(0, 1.5, (count, 10)) for _ in range(2)]
    return views[0], views[1], labels


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_threshold_gives_the_share_of_the_least_sure_images(share: float) -> None:
    first, mirrored, labels = draw_logits()
    view = choose_second_view(first, mirrored, labels, share)
    assert view.share == pytest.approx(share, abs=0.01)
    sure = np.sort(measure_confidence(first))[round(share * len(labels)) :]
    assert view.below <= sure.min()
    assert view.accuracy_of_one < view.accuracy <= 1


def test_only_unsure_rows_change() -> None:
    first, mirrored, _ = draw_logits()
    both = combine(first, mirrored, 0.6)
    unsure = measure_confidence(first) < 0.6
    np.testing.assert_array_equal(both[~unsure], first[~unsure])
    np.testing.assert_array_equal(both[unsure], (first + mirrored)[unsure] / 2)
    assert 0 < unsure.sum() < len(unsure)


def test_looking_at_all_images_again_gives_the_mean() -> None:
    first, mirrored, _ = draw_logits()
    np.testing.assert_array_equal(combine(first, mirrored, 1.1), (first + mirrored) / 2)
