"""A command line -> a trained, exported model. What `train.mnist` and `train.cifar` share.

Enters: flags. Leaves: the folder `<out>/<model>/<version>/` (`publish.py` says what is in it), and an exit code:
0 done; 3 an unmodified recipe ended below its target accuracy (the files are written all the same); 2 bad usage;
1 otherwise. Does not know: how anything is computed. `--help` and usage errors answer without TensorFlow.
"""

import argparse
import dataclasses
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from serve.errors import InklingError
from train.data import load
from train.publish import publish_run
from train.recipe import Recipe
from train.recipes import RECIPES

if TYPE_CHECKING:
    from train.data import Dataset
    from train.export import Exported

PRECISIONS = ("auto", "float32", "bfloat16")
_NOISE = re.compile(r"I\d{4} |WARNING: All log messages before absl::InitializeLog")


def main(module: str, default: str) -> int:
    """Parse the flags of `python -m train.<module>`, train, and return the exit code."""
    flags = parse_flags(module, default)
    unfinished = flags.out / flags.model / "unfinished.npz"
    return run(lambda: train(flags, unfinished), unfinished)


def run(work: Callable[[], int], unfinished: Path) -> int:
    """Do the work; an interruption and every failure that has a name end in a sentence and exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM cleans up as Ctrl-C does
    try:
        return work()
    except KeyboardInterrupt:
        hint = f"; go on with --resume ({unfinished})" if unfinished.exists() else ""
        print(f"interrupted: no model file was written{hint}", file=sys.stderr)
    except (InklingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


def parse_flags(module: str, default: str) -> argparse.Namespace:
    """The flags; exits with code 2 on bad ones."""
    dataset = RECIPES[default].dataset
    names = [name for name, recipe in RECIPES.items() if recipe.dataset == dataset]
    lines = [f"  {name:12} {RECIPES[name].measured_accuracy:.4f}, {RECIPES[name].epochs} epochs" for name in names]
    parser = argparse.ArgumentParser(
        prog=f"python -m train.{module}",
        description="Train a model, export it to one ONNX file, and check the file against the model.",
        epilog="models, with the test accuracy measured on the file that ships:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=names, default=default, help=f"default: {default}")
    parser.add_argument("--epochs", type=read_positive, metavar="N", help="default: the recipe's")
    parser.add_argument("--data", type=Path, metavar="DIR", help="default: INKLING_DATA, else ~/.cache/inkling")
    add_run_flags(parser)
    return parser.parse_args()


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that trains."""
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights, order and augmentation; default: 0"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="default: what the hardware has")
    parser.add_argument("--no-augment", action="store_true", help="train on the images as they are")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same flags")


def read_positive(text: str) -> int:
    """A flag's whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1; got {text!r}")
    return int(text)


def train(flags: argparse.Namespace, unfinished: Path) -> int:
    """The whole way: dataset, fit, export, report."""
    recipe = adapt(RECIPES[flags.model], flags)
    exported = train_recipe(recipe, load(recipe.dataset, flags.data), flags, unfinished)
    return exit_code(recipe, exported.spec.test_accuracy)


def train_recipe(recipe: Recipe, dataset: "Dataset", flags: argparse.Namespace, unfinished: Path) -> "Exported":
    """Fit a recipe's net to a dataset under the flags of `add_run_flags`, and leave its folder."""
    with less_noise():
        import keras  # TensorFlow comes in here: after the flags and the dataset, which fail faster

        from train import fit, models, precision
    if unfinished.exists() and not flags.resume:
        print(f"starting over; an interrupted run is in {unfinished}, and --resume would go on with it")
    chosen = precision.choose_precision(flags.precision)
    print(f"{recipe.name}: {recipe.epochs} epochs in {chosen} on {keras.backend.backend()}, seed {flags.seed}")
    keras.utils.set_random_seed(flags.seed)
    model = models.build(recipe.net, dataset.shape, len(dataset.labels["en"]), precision.POLICIES[chosen], recipe.name)
    progress = fit.fit(
        model,
        dataset.train_images,
        dataset.train_labels,
        recipe,
        seed=flags.seed,
        unfinished=unfinished,
        resume=flags.resume,
    )
    model = models.build_float32(model, recipe.net)
    if recipe.mirrors:
        model = models.mirror(model)
    exported = publish_run(model, dataset, recipe, progress, precision=chosen, out=flags.out)
    unfinished.unlink()
    return exported


def adapt(recipe: Recipe, flags: argparse.Namespace) -> Recipe:
    """The recipe with what the flags change."""
    epochs = flags.epochs or recipe.epochs
    return dataclasses.replace(recipe, epochs=epochs, augmentation=None if flags.no_augment else recipe.augmentation)


@contextmanager
def less_noise() -> Iterator[None]:
    """Hold back what TensorFlow's C++ side writes to stderr on import, and then pass on all but its INFO lines.

    Its own setting, TF_CPP_MIN_LOG_LEVEL, does not reach the lines it writes before its logging is set up.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile("w+b") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            sys.stderr.writelines(line for line in held.read().decode().splitlines(True) if not _NOISE.match(line))


def exit_code(recipe: Recipe, test_accuracy: float) -> int:
    """3 where a recipe that no flag changed missed its target."""
    if recipe != RECIPES[recipe.name] or test_accuracy >= recipe.target_accuracy:
        return 0
    print(f"below the target of {recipe.name}: wanted {recipe.target_accuracy}, found {test_accuracy}", file=sys.stderr)
    return 3
