"""Means of weights: the moving average over the steps of a run, and the mean of those before and after a tuning.

Enters: a model compiled by `fit.py` whose optimizer keeps averages, and the data that it was trained on; or weights.
Leaves: the same model, and whether its weights are the averages now; or weights.
Does not know: recipes by name, ONNX.

Moving averages belong to other values inside the net, so each normalisation gets its mean and variance anew, from
training images as the training shows them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from train.data.datasets import Part

BATCHES = 30
"""Of a norm's old mean and variance, 0.8 is kept a batch; nothing is left of them after so many."""


def take_averages(
    trained: keras.Model, show: Callable[[Part], Any], train: Part, batch_size: int, measure: Callable[[], float]
) -> bool:
    """Replace the weights by their averages, unless `measure` then gives less. Returns whether they were replaced.

    `show` gives the images of a batch as the training does.
    """
    before, accuracy = trained.get_weights(), measure()
    trained.optimizer.finalize_variable_values(trained.trainable_variables)
    order = np.random.default_rng(0).permutation(len(train))
    for number in range(BATCHES):
        chosen = order[np.arange(number * batch_size, (number + 1) * batch_size) % len(order)]
        trained(show(train.take(chosen)), training=True)
    if measure() >= accuracy:
        return True
    trained.set_weights(before)
    return False


def mix_weights(
    before: Sequence[npt.NDArray[np.floating]], after: Sequence[npt.NDArray[np.floating]], share: float
) -> list[npt.NDArray[np.floating]]:
    """The mean of two sets of weights of one net, with `share`, 0 to 1, of the second. Shapes and dtypes stay.

    Means and variances of normalisations are mixed as the rest is (Wortsman et al. 2022, "WiSE-FT").
    """
    return [((1 - share) * old + share * new).astype(new.dtype) for old, new in zip(before, after, strict=True)]
