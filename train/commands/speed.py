"""`python -m train.speed`: compare the training speed of a recipe with that of the notebooks it comes from.

Enters: flags. Leaves: images per second of both, measured in turn, and their ratio, as a table and a last line of JSON.
Does not know: accuracy.

The notebooks train with Keras' ImageDataGenerator, `Model.fit`, Adam and float32. Net, batch size and augmentation are
the same. Ours is what `fitting/fit.py` does, in the chosen precision. Only ImageDataGenerator needs SciPy.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.commands.ending import run
from train.commands.recipe import less_noise
from train.data.datasets import load
from train.flags import add_data_flag, add_precision_flag, read_flags, read_positive
from train.recipes.recipe import Augmentation, Recipe
from train.recipes.shipped import NOTEBOOK_AUGMENTATION, RECIPES

if TYPE_CHECKING:
    import keras

Step = Callable[[], int]
"""Trains on some images and returns their number."""


@dataclass(frozen=True)
class SpeedFlags:
    """The flags of `python -m train.speed`."""

    model: str
    rounds: int
    batches: int
    precision: str | None
    data: Path | None


def main() -> int:
    """Parse the flags, measure, and return the exit code: 1 if SciPy is missing."""
    flags = parse_flags()
    try:
        import_module("scipy")
    except ImportError:
        print("error: ImageDataGenerator needs SciPy, which is not installed: pip install scipy", file=sys.stderr)
        return 1
    return run(lambda: measure(flags), lambda: "nothing was written")


def measure(flags: SpeedFlags) -> int:
    """Load the data, train both ways in turn, and report. Returns the exit code."""
    recipe = RECIPES[flags.model]
    with less_noise():
        import keras

        from train.nets import precision
    chosen = precision.choose_precision(flags.precision)
    dataset = load(recipe.dataset, flags.data)
    images, targets = dataset.train.images, keras.utils.to_categorical(dataset.train.labels)
    ways = {
        "ours": make_our_step(recipe, images, targets, flags.batches, precision.POLICIES[chosen]),
        "ImageDataGenerator": make_notebook_step(recipe, images, targets, flags.batches),
    }
    report(recipe, chosen, measure_in_turn(ways, flags.rounds))
    return 0


def parse_flags() -> SpeedFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    # The generator has no counterpart of other augmentations, and mnist trains with another optimizer.
    names = [name for name, recipe in RECIPES.items() if recipe.augmentation == NOTEBOOK_AUGMENTATION]
    about = "Compare training speed with that of Keras' ImageDataGenerator and Model.fit."
    parser = argparse.ArgumentParser(prog="python -m train.speed", description=about)
    add = parser.add_argument
    add("--model", choices=names, default="cifar10-cnn", help="train this recipe; default: cifar10-cnn")
    add("--rounds", type=read_positive, default=3, metavar="N", help="measure both ways N times, in turn; default: 3")
    add("--batches", type=read_positive, default=10, metavar="N", help="train on N batches a round; default: 10")
    add_precision_flag(parser)
    add_data_flag(parser)
    return read_flags(parser, SpeedFlags)


def make_our_step(recipe: Recipe, images: Any, targets: Any, batches: int, policy: str) -> Step:
    """Make a step that trains as `fit.fit` does, with the augmentation inside the compiled step."""
    import keras

    from train.fitting import fit
    from train.fitting.epochs import run
    from train.nets import build

    model = build.build(recipe.net, images.shape[1:], targets.shape[1], policy, recipe.name)
    trained = fit.compile_for_training(model, recipe, 0, len(images) // recipe.batch_size)
    count = min(batches * recipe.batch_size, len(images))

    def step() -> int:
        order = run.draw_order(len(images), 0, 0)[:count]
        run.run_epoch(trained.train_on_batch, images, targets, order, recipe.batch_size)
        return count

    keras.utils.disable_interactive_logging()
    return step


def make_notebook_step(recipe: Recipe, images: Any, targets: Any, batches: int) -> Step:
    """Make a step that trains as the notebooks did: a generator of augmented batches, and `Model.fit`."""
    import keras

    from train.nets import build

    trained = make_plain(build.take_logits(build.build(recipe.net, images.shape[1:], targets.shape[1])))
    trained.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    flow = make_generator(recipe).flow(images, targets, batch_size=recipe.batch_size)

    def step() -> int:
        trained.fit(flow, steps_per_epoch=batches, verbose=0)
        return min(batches, len(flow)) * recipe.batch_size

    return step


def make_plain(model: "keras.Model") -> "keras.Model":
    """A copy of a net with Keras' own layers in place of ours, as in the notebooks."""
    import keras

    def take(layer: keras.Layer) -> keras.Layer:
        own = (kind for kind in (keras.layers.Conv2D, keras.layers.Dropout) if isinstance(layer, kind))
        return next(own, type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=take)


def make_generator(recipe: Recipe) -> Any:
    """Make Keras' ImageDataGenerator with the ranges of a recipe."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator  # Keras 3 no longer has it

    ranges = recipe.augmentation
    assert isinstance(ranges, Augmentation)  # noqa: S101  # --model offers no other
    return ImageDataGenerator(
        rotation_range=ranges.rotation_degrees,
        width_shift_range=ranges.shift,
        height_shift_range=ranges.shift,
        zoom_range=ranges.zoom,
        horizontal_flip=ranges.horizontal_flip,
    )


def measure_in_turn(ways: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Images per second of each way in each round. A first round compiles and is left out."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, step in ways.items():
            started_s = time.monotonic()
            count = step()
            rate = count / (time.monotonic() - started_s)
            if number:
                found[name].append(rate)
                print(f"round {number} of {rounds}: {name} {rate:,.0f} images/s", flush=True)
    return found


def report(recipe: Recipe, precision: str, found: dict[str, list[float]]) -> None:
    """Print the medians, the ratio of the rounds, and all of it as a line of JSON."""
    ours, theirs = found["ours"], found["ImageDataGenerator"]
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    print(f"{'way':20} {'images/s':>9}")
    for name, rates in found.items():
        print(f"{name:20} {statistics.median(rates):9,.0f}")
    print(
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"
    )
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe.name,
        "precision": precision,
        "images_per_s": found,
        "ratio": statistics.median(ratios),
        "versions": {package: version(package) for package in ("keras", "tensorflow", "numpy", "scipy")},
    }
    print(json.dumps(facts))
