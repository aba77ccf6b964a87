"""`train.fitting.epochs.distillation`: labels and a teacher's answers in one target."""

import numpy as np
import numpy.typing as npt
import pytest

from train.fitting.epochs.distillation import Teacher, mix_targets
from train.recipes.recipe import Distillation

LABELS = np.eye(3)[[0, 2]]
ANSWERS = np.array([[0.81, 0.16, 0.03], [1.0, 0.0, 0.0]])


def test_a_temperature_takes_the_root_of_the_teachers_probabilities() -> None:
    roots = np.sqrt(ANSWERS[0])
    targets = mix_targets(LABELS, ANSWERS, Distillation("file", share=1.0, temperature=2.0))
    np.testing.assert_allclose(targets[0], roots / roots.sum(), rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_labels_have_what_the_teacher_does_not_have(share: float) -> None:
    targets = mix_targets(LABELS, ANSWERS, Distillation("file", share=share, temperature=1.0))
    np.testing.assert_allclose(targets, (1 - share) * LABELS + share * ANSWERS, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)


def test_a_teacher_answers_the_images_of_a_batch_as_they_are_shown() -> None:
    asked: list[npt.NDArray[np.uint8]] = []

    def answer(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        asked.append(images)
        return ANSWERS

    views = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    settings = Distillation("file", share=0.3, temperature=1.0)
    targets = Teacher(answer, settings, count=9)(views, LABELS, np.array([8, 3]))
    np.testing.assert_array_equal(asked, [views])
    np.testing.assert_allclose(targets, 0.7 * LABELS + 0.3 * ANSWERS, atol=1e-6)


def test_a_teacher_is_not_asked_about_images_of_no_class() -> None:
    views, targets = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (0, 1, 2)]), np.full((3, 3), 1 / 3)

    def answer(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        assert images.max() == 1  # the third stands behind the training's own
        return ANSWERS

    mixed = Teacher(answer, Distillation("file", share=1.0, temperature=1.0), count=2)(views, targets, np.arange(3))
    np.testing.assert_allclose(mixed, [*ANSWERS, targets[2]], atol=1e-6)
