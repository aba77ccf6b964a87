"""A recipe -> the learning rate of each step.

Enters: a `Recipe`, the steps of an epoch. Leaves: a Keras schedule. Does not know: optimizers, nets, images.
"""

from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import CosineDecay, LearningRateSchedule

from train.recipes.recipe import Recipe


@keras.saving.register_keras_serializable("inkling")
class Falls(LearningRateSchedule):
    """Half a cosine from a peak down to 0, after a linear warm-up, and later a second one from another peak."""

    def __init__(self, first: dict[str, Any], second: dict[str, Any], start: int) -> None:
        """Each is the settings of a `CosineDecay`. The second begins at the step `start`."""
        self._settings = {"first": first, "second": second, "start": start}
        self._first, self._second, self._start = CosineDecay(**first), CosineDecay(**second), start

    def __call__(self, step: Any) -> Any:
        """The rate of a step, from 0."""
        later = ops.maximum(step - self._start, 0)
        return ops.where(step < self._start, self._first(step), self._second(later))

    def get_config(self) -> dict[str, Any]:
        """What a saved model needs to make it again."""
        return self._settings


def schedule_learning_rate(
    recipe: Recipe, steps_per_epoch: int, steps_per_tuning_epoch: int = 0
) -> LearningRateSchedule:
    """A linear warm-up from 0 to the peak, then half a cosine down to 0 (Loshchilov & Hutter 2017, no restarts).

    A tuning starts at its own peak and falls to 0 the same way. Its epochs have as many steps as the others unless
    another number is given.
    """
    warmup_steps = min(recipe.warmup_epochs, max(recipe.epochs - 1, 0)) * steps_per_epoch
    settings = {
        "initial_learning_rate": 0.0 if warmup_steps else recipe.peak_learning_rate,
        "decay_steps": max(recipe.epochs * steps_per_epoch - warmup_steps, 1),
        "warmup_target": recipe.peak_learning_rate if warmup_steps else None,
        "warmup_steps": warmup_steps,
    }
    if recipe.tuning is None:
        return CosineDecay(**settings)
    peak, steps = recipe.tuning.peak_learning_rate, recipe.tuning.epochs * (steps_per_tuning_epoch or steps_per_epoch)
    last = {"initial_learning_rate": peak, "decay_steps": steps}
    return Falls(settings, last, recipe.epochs * steps_per_epoch)
