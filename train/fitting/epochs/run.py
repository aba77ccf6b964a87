"""The images of an epoch and their targets -> a model that was shown them all, and its figures.

Enters: `Shown`, a step of a compiled keras.Model, a `Recipe`, a seed. Leaves: the mean loss and accuracy of an epoch.
Does not know: other epochs, validation, files. Plain Keras 3: any backend.
"""

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from train.data.datasets import Images, Part
from train.fitting.augmentation.crop import Cropper
from train.fitting.augmentation.views import Redrawer
from train.fitting.epochs.distillation import Teacher
from train.fitting.epochs.strangers import Shown
from train.recipes.recipe import Crop, Recipe

Targets = npt.NDArray[np.floating]
Change = Callable[[Images, npt.NDArray[np.int64]], Images]

FIGURES = ("loss", "accuracy")


def train_epoch(
    trained: keras.Model, shown: Shown, recipe: Recipe, *, seed: int, epoch: int, teacher: Teacher | None = None
) -> dict[str, float]:
    """Train a compiled model for one epoch. Returns the mean loss and accuracy over all that it was shown."""
    part, targets, drawn = shown
    order = draw_order(len(part), seed, epoch)
    change = make_change(recipe, part, drawn, seed=seed, epoch=epoch)
    step = trained.train_on_batch
    return run_epoch(step, part.images, targets, order, recipe.batch_size, change=change, teacher=teacher)


def make_change(recipe: Recipe, part: Part, drawn: Images | None, *, seed: int, epoch: int) -> Change | None:
    """What changes the images of a part in an epoch before the model gets them; None if nothing does."""
    augmentation = recipe.find_augmentation(epoch)
    if isinstance(augmentation, Crop):
        return Cropper(augmentation, part.places, seed=seed, epoch=epoch)
    if augmentation and (augmentation.cutout_pixels or augmentation.people):
        return Redrawer(augmentation, drawn, seed=seed, epoch=epoch)
    return None


def run_epoch(
    step: Callable[..., dict[str, Any]],
    images: Images,
    targets: npt.NDArray[np.floating],
    order: npt.NDArray[np.int64],
    batch_size: int,
    *,
    change: Change | None = None,
    teacher: Teacher | None = None,
) -> dict[str, float]:
    """Give images uint8 [N, H, W, C] to a training or test step, batch by batch. Returns the mean loss and accuracy.

    `Model.fit` is slower: each call builds a tf.data pipeline, and ends by waiting for a sleeping thread.
    """
    starts = range(0, len(order), batch_size)
    bar = keras.utils.Progbar(len(starts), verbose=1 if sys.stdout.isatty() else 2, stateful_metrics=FIGURES)
    sums, seen = dict.fromkeys(FIGURES, 0.0), 0
    for number, start in enumerate(starts, 1):
        batch = order[start : start + batch_size]
        inputs = change(images[batch], batch) if change else images[batch]
        wanted = teacher(inputs, targets[batch], batch) if teacher else targets[batch]
        figures = step(inputs, wanted, return_dict=True)  # Keras gives the figures of this batch only
        seen += len(batch)
        sums = {name: total + float(figures[name]) * len(batch) for name, total in sums.items()}
        bar.update(number, [(name, total / seen) for name, total in sums.items()])
    return {name: total / seen for name, total in sums.items()}


def draw_order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of an epoch's images, int64 [count]. Nothing else decides it, so a resumed run draws the same."""
    return np.random.default_rng((seed, epoch)).permutation(count)
