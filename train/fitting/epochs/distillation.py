"""Labels and a teacher's answers -> the targets of a training.

Enters: one-hot labels and probabilities, both float [N, K], and a `Distillation`. Leaves: targets float32 [N, K].
Does not know: the teacher's file, Keras, or how images are changed before they are shown.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from train.data.datasets import Images
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


class Teacher:
    """Gives a model's answers to the images of a batch, as the batch shows them, a share in its targets."""

    def __init__(
        self, answer: Callable[[Images], npt.NDArray[np.floating]], settings: Distillation, count: int
    ) -> None:
        """`answer` gives probabilities float [N, K] for images. Those from place `count` on show none of its classes.

        Such images keep their targets.
        """
        self._answer, self._settings, self._count = answer, settings, count

    def __call__(
        self, images: Images, targets: npt.NDArray[np.floating], places: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.floating]:
        """Targets float [N, K] for images uint8 [N, H, W, C], which stand at `places` int64 [N] in what is shown."""
        known = places < self._count
        mixed = np.array(targets, np.float32)
        mixed[known] = mix_targets(targets[known], self._answer(images[known]), self._settings)
        return mixed
