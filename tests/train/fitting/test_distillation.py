"""`train.fitting.distillation`: labels and a teacher's answers in one target."""

import numpy as np
import pytest

from train.fitting.distillation import mix_targets
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
