"""What an epoch shows -> the same, and images of no class with a target that says so.

Enters: a training part, its targets, a recipe, a seed. Leaves: `Shown`, whose last images are made strangers.
Does not know: nets, or how strangers are drawn (`data/strangers.py`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from serve.model_file.spec import InputSpec
from train.data.datasets import Images, Part
from train.data.strangers import count_shown, show_strangers
from train.recipes.recipe import Recipe


class Shown(NamedTuple):
    """The images of an epoch, and what a net should answer to each."""

    part: Part
    targets: npt.NDArray[np.floating]
    """Float [N, K]; rows sum to 1."""
    drawn: Images | None
    """People's pictures of the same images, uint8 [N, H, W, C], if the recipe shows them."""


def count_strangers(recipe: Recipe) -> int:
    """How many images `add_strangers` adds."""
    return count_shown(recipe.tuning.strangers) if recipe.tuning else 0


def add_strangers(own: Shown, recipe: Recipe, *, seed: int) -> Shown:
    """The same images and, behind them, the strangers of the recipe's tuning. Without any, `own` itself.

    A stranger's target gives every class the same share. Its label says nothing and is 0.
    """
    if recipe.tuning is None or not recipe.tuning.strangers:
        return own
    height, width, channels = own.part.images.shape[1:]
    target = InputSpec((height, width, channels), "uint8", "grey" if channels == 1 else "rgb")
    made = show_strangers(own.part.images, target, recipe.prepare, count=recipe.tuning.strangers, seed=seed)
    print(f"showing {len(made):,} images of no class in the tuning", flush=True)
    count, classes = len(made), own.targets.shape[1]
    first = int(own.part.places.max()) + 1
    part = Part(
        np.concatenate([own.part.images, made]),
        np.concatenate([own.part.labels, np.zeros(count, np.int64)]),
        np.concatenate([own.part.places, np.arange(first, first + count)]),
    )
    uniform = np.full((count, classes), 1 / classes, own.targets.dtype)
    drawn = None if own.drawn is None else np.concatenate([own.drawn, made])
    return Shown(part, np.concatenate([own.targets, uniform]), drawn)
