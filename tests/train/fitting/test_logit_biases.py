"""train.fitting.logit_biases: the biases of the logits, and nothing else, fitted to plain images."""

import numpy as np
import pytest

from train.fitting.logit_biases import balance_classes, fit_biases
from train.nets.build import build
from train.recipes.shipped import RECIPES


def draw_problem(shift: np.ndarray, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels were drawn from their softmax, after which `shift` was taken away from them."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, len(shift)))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return logits - shift, labels


def test_a_known_shift_of_the_classes_is_found() -> None:
    shift = np.array([1.0, -0.5, 0.0, 0.7, -1.2])
    logits, labels = draw_problem(shift)
    assert fit_biases(logits, labels) == pytest.approx(shift, abs=0.1)


def test_after_it_every_class_is_expected_as_often_as_it_occurs() -> None:
    logits, labels = draw_problem(np.array([2.0, -1.0, -1.0]))
    shifted = logits + fit_biases(logits, labels)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    assert probabilities.mean(axis=0) == pytest.approx(np.bincount(labels) / len(labels), abs=1e-6)


def test_the_biases_sum_to_nothing() -> None:
    assert fit_biases(*draw_problem(np.array([3.0, 1.0, 0.0]))).sum() == pytest.approx(0, abs=1e-9)


def test_a_class_that_no_label_names_is_neither_favoured_nor_shut_out() -> None:
    """A rare class may be missing from the images chosen; least loss would be its bias at minus infinity."""
    logits, labels = draw_problem(np.array([1.0, -1.0, 0.0]))
    biases = fit_biases(np.insert(logits, 1, 0.5, axis=1), np.where(labels > 0, labels + 1, 0))
    assert biases[1] == 0
    np.testing.assert_array_equal(np.delete(biases, 1), fit_biases(logits, labels))


@pytest.mark.parametrize("margin", [3, 8, 20, 40])
def test_on_few_images_that_are_nearly_all_learnt_the_loss_falls_and_no_answer_is_lost(margin: int) -> None:
    """A full Newton step from here went astray by thousands."""
    labels = np.arange(84) % 3
    logits = np.eye(3)[labels] * margin
    logits[0] = np.roll(logits[0], 1)  # one sure mistake
    biases = fit_biases(logits, labels)
    assert np.abs(biases).max() < margin
    assert ((logits + biases).argmax(axis=1) == labels).sum() >= 83


def test_only_the_logits_biases_change() -> None:
    model = build(RECIPES["mnist-mlp"].net, (28, 28, 1), 10)
    before = [array.copy() for array in model.get_weights()]
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), dtype=np.uint8)
    balance_classes(model, images, np.arange(200) % 10)
    *others, biases = zip(before, model.get_weights(), strict=True)
    assert all(np.array_equal(old, new) for old, new in others)
    assert not np.array_equal(*biases)
