"""Labels and a teacher's answers -> the targets of a training.

Enters: one-hot labels and probabilities, both float [N, K], and a `Distillation`. Leaves: targets float32 [N, K].
Does not know: the teacher's file, images, Keras.
"""

import numpy as np
import numpy.typing as npt

from train.recipes.recipe import Distillation

LEAST = 1e-12
"""Stands for a probability of 0, which has no logarithm."""


def mix_targets(
    labels: npt.NDArray[np.floating], probabilities: npt.NDArray[np.floating], settings: Distillation
) -> npt.NDArray[np.float32]:
    """The labels float [N, K] with the teacher's share of its softened probabilities float [N, K]. Rows sum to 1."""
    softened = np.maximum(probabilities, LEAST) ** (1 / settings.temperature)
    softened /= softened.sum(axis=1, keepdims=True)
    return np.asarray((1 - settings.share) * labels + settings.share * softened, np.float32)
