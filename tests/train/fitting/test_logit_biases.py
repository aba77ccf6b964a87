"""`train.fitting.logit_biases`: only the biases of the logits are fitted."""

import numpy as np
import pytest

from train.fitting.logit_biases import balance_classes, fit_biases
from train.nets.build import build
from train.recipes.shipped import RECIPES


def draw_problem(shift: np.ndarray, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits minus `shift`, with labels that were drawn from the softmax before."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, len(shift)))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return logits - shift, labels


def test_a_known_shift_of_the_classes_is_found() -> None:
    shift = np.array([1.0, -0.5, 0.0, 0.7, -1.2])
    logits, labels = draw_problem(shift)
    assert fit_biases(logits, labels) == pytest.approx(shift, abs=0.1)


def test_the_mean_probability_of_a_class_becomes_its_share() -> None:
    logits, labels = draw_problem(np.array([2.0, -1.0, -1.0]))
    shifted = logits + fit_biases(logits, labels)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    assert probabilities.mean(axis=0) == pytest.approx(np.bincount(labels) / len(labels), abs=1e-6)


def test_the_biases_sum_to_0() -> None:
    assert fit_biases(*draw_problem(np.array([3.0, 1.0, 0.0]))).sum() == pytest.approx(0, abs=1e-9)


def test_a_class_without_labels_gets_a_bias_of_0() -> None:
    """A rare class may be missing from the chosen images. Its best bias would be minus infinity."""
    logits, labels = draw_problem(np.array([1.0, -1.0, 0.0]))
    biases = fit_biases(np.insert(logits, 1, 0.5, axis=1), np.where(labels > 0, labels + 1, 0))
    assert biases[1] == 0
    np.testing.assert_array_equal(np.delete(biases, 1), fit_biases(logits, labels))


@pytest.mark.parametrize("margin", [3, 8, 20, 40])
def test_few_images_with_mostly_right_answers_do_not_diverge(margin: int) -> None:
    """A full Newton step would diverge here."""
    labels = np.arange(84) % 3
    logits = np.eye(3)[labels] * margin
    logits[0] = np.roll(logits[0], 1)  # a confident mistake
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
