"""`python -m train.mnist` and `train.cifar`: a recipe -> a trained, exported model.

Enters: flags. Leaves: the folder `<out>/<model>/<version>/` (`publish.py` lists its files), and an exit code. With
`--epochs 0` it only prints the figures of a file that exists. The code is 0 when done, 2 for bad usage, and 1 for any
other failure. It is 3 if an unmodified recipe ended below its target accuracy; its files are written.
Does not know: how anything is computed. `--help`, usage errors and `--epochs 0` need no TensorFlow.
"""

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.errors import ConfigError, InklingError
from serve.model_file.folder import find_newest
from serve.program import name_program
from train.commands.ending import STDOUT_REMEDY, advise_resuming, run
from train.commands.publish import print_outcome, print_test_figures, publish_run
from train.commands.start import find_teacher, read_initial, start_from, teach
from train.data.datasets import load
from train.evaluation.metrics import measure_accuracy
from train.flags import RunFlags, add_data_flag, add_run_flags, read_count, read_flags
from train.recipes.notebooks import ALL, NOTEBOOKS
from train.recipes.recipe import Distillation, Recipe
from train.recipes.shipped import CANDIDATES, QUICK, RECIPES
from train.run_folder import claim

if TYPE_CHECKING:
    from train.data.datasets import Dataset
    from train.export.from_keras import Exported

SHIPPED = Path(__file__).parents[2] / "models"  # the files that ship with a checkout
_NOISE = re.compile(r"I\d{4} |WARNING: All log messages before absl::InitializeLog")


class OutcomeUnprinted(InklingError):
    """The run is finished, but its figures could not be printed."""


@dataclass(frozen=True, kw_only=True)
class RecipeFlags(RunFlags):
    """The flags of `python -m train.mnist` and `train.cifar`."""

    model: str
    data: Path | None
    initial: Path | None = None
    teacher: Path | None = None


def main(module: str, default: str) -> int:
    """Parse the flags of `python -m train.<module>`, train or evaluate, and return the exit code."""
    flags = parse_flags(module, default)
    checkpoint = flags.out / flags.model / "unfinished.npz"
    return run(
        lambda: evaluate(flags) if flags.epochs == 0 else train(flags, checkpoint), lambda: advise_resuming(checkpoint)
    )


def parse_flags(module: str, default: str) -> RecipeFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    dataset = RECIPES[default].dataset
    names = [name for name, recipe in ALL.items() if recipe.dataset == dataset]
    parser = argparse.ArgumentParser(
        prog=name_program(f"train.{module}"),
        description="Train a model, export it to one ONNX file, and check the file against the model.",
        epilog=list_models(dataset),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", choices=names, default=default, metavar="NAME", help=f"train this recipe; default: {default}")
    epochs = "train N epochs; 0 evaluates the newest file in --out, or else the shipped one; default: the recipe's"
    add("--epochs", type=read_count, metavar="N", help=epochs)
    add("--initial", type=Path, metavar="FILE", help="start from the weights of this model.onnx of the same net")
    teacher = "give the answers of this model.onnx a share in the targets"
    add("--teacher", type=Path, metavar="FILE", help=teacher)
    add_data_flag(parser)
    add_run_flags(parser)
    return read_flags(parser, RecipeFlags)


def list_models(dataset: str) -> str:
    """List the recipes of a dataset with their accuracy: shipped models, quick ones, and rows of the notebooks."""
    kinds = {
        "models, with the test accuracy of the file that ships:": RECIPES,
        "trained in less time, with the test accuracy:": QUICK,
        "not trained yet, with 0 for the test accuracy:": CANDIDATES,
        "rows of the notebooks, with the test accuracy, and the notebook's own figure:": NOTEBOOKS,
    }
    lines = []
    for heading, recipes in kinds.items():
        rows = [_list_model(recipe) for recipe in recipes.values() if recipe.dataset == dataset]
        lines += [heading, *rows] if rows else []
    return "\n".join(lines)


def _list_model(recipe: Recipe) -> str:
    notebook = ""
    if recipe.name in NOTEBOOKS:
        notebook = f", notebook {recipe.target_accuracy:.4f}" if recipe.target_accuracy else ", notebook none"
    measured = f"{recipe.measured_accuracy:.4f}" if recipe.measured_accuracy else "not measured"
    return f"  {recipe.name:28} {measured}{notebook}, {recipe.total_epochs} epochs"


def train(flags: RecipeFlags, checkpoint: Path) -> int:
    """Load the dataset, fit, export and report. Returns the exit code."""
    recipe = start_from(adapt(ALL[flags.model], flags), flags.initial, flags.teacher)
    exported = train_recipe(recipe, load(recipe.dataset, flags.data, recipe.validation_count), flags, checkpoint)
    return exit_code(recipe, exported.spec.test_accuracy)


def evaluate(flags: RecipeFlags) -> int:
    """Print the figures of an existing file on the published test set. Returns the exit code; writes nothing."""
    from train.export.onnx_file import run_file  # not above: it imports ONNX

    refuse_training_flags(flags)
    recipe, path = ALL[flags.model], find_newest(flags.model, (flags.out, SHIPPED))
    print(f"evaluating {path}")
    dataset = load(recipe.dataset, flags.data)
    spec, probabilities = run_file(path, dataset)
    print(f"trained with seed {spec.recipe.get('seed')} in {spec.recipe.get('precision')}")
    print_test_figures(probabilities, dataset)
    return exit_code(restore(recipe, spec.recipe), measure_accuracy(probabilities, dataset.test.labels))


def refuse_training_flags(flags: RecipeFlags) -> None:
    """Raise ConfigError if `--epochs 0` is given with a flag that only a training run can follow."""
    untouched = RecipeFlags(out=flags.out, epochs=flags.epochs, model=flags.model, data=flags.data)
    given = [each.name for each in fields(RecipeFlags) if getattr(flags, each.name) != getattr(untouched, each.name)]
    if given:
        raise ConfigError(f"--epochs 0 trains nothing: wanted it without --{given[0].replace('_', '-')}")


def restore(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe of the run that wrote a file: what flags can change comes from the file's metadata."""
    return replace(
        recipe,
        epochs=settings.get("epochs", 0),
        patience=settings.get("patience"),  # older files have none
        augmentation=recipe.augmentation if settings.get("augmentation") else None,
        tuning=recipe.tuning if settings.get("tuning") else None,
        initial=settings.get("initial"),
        distillation=Distillation(**settings["distillation"]) if settings.get("distillation") else None,
    )


def train_recipe(recipe: Recipe, dataset: "Dataset", flags: RunFlags, checkpoint: Path) -> "Exported":
    """Fit a recipe's net to a dataset and publish it. Raises InklingError, also if another process trains there."""
    if flags.tensorboard and importlib.util.find_spec("tensorflow") is None:
        raise InklingError("--tensorboard: wanted TensorFlow, which writes these files; it is not installed")
    with claim(checkpoint.parent):
        return _train_locked(recipe, dataset, flags, checkpoint)


def _train_locked(recipe: Recipe, dataset: "Dataset", flags: RunFlags, checkpoint: Path) -> "Exported":
    with less_noise():
        import keras  # not above: TensorFlow is slow to import, and other errors come first

        from train.fitting import fit
        from train.nets import build, precision
    if checkpoint.exists() and not flags.resume:
        print(
            f"starting over; the checkpoint of an interrupted run is {checkpoint}, and --resume would continue from it"
        )
    chosen, seed = precision.choose_precision(flags.precision), flags.seed or 0
    print(f"{recipe.name}: {recipe.total_epochs} epochs in {chosen} on {keras.backend.backend()}, seed {seed}")
    keras.utils.set_random_seed(seed)
    model = build.build(recipe.net, dataset.shape, len(dataset.labels["en"]), precision.POLICIES[chosen], recipe.name)
    if recipe.initial:
        model.set_weights(read_initial(recipe, dataset).get_weights())
    progress = fit.fit(
        model,
        dataset.train,
        dataset.validation,
        recipe,
        seed=seed,
        checkpoint=checkpoint,
        resume=flags.resume,
        targets=teach(recipe, dataset),
        teacher=find_teacher(recipe, dataset),
    )
    fitted, view = build.build_float32(model, recipe.net), progress.second_view
    below = view.below if view else 0.0
    whole = build.complete(fitted, mirrors=recipe.mirrors, calibration=progress.calibration, below=below)
    exported, folder = publish_run(
        whole,
        dataset,
        recipe,
        progress,
        precision=chosen,
        out=flags.out,
        single=build.complete(fitted, calibration=progress.calibration) if view else None,
        tensorboard=flags.tensorboard,
    )
    checkpoint.unlink()
    try:
        print_outcome(exported, progress, dataset, folder, flags.out)
        sys.stdout.flush()
    except OSError as error:
        raise OutcomeUnprinted(f"wrote {folder}, but stdout cannot be written to; {STDOUT_REMEDY} next time") from error
    except KeyboardInterrupt as error:
        raise OutcomeUnprinted(f"wrote {folder}, and was interrupted before its figures") from error
    return exported


def adapt(recipe: Recipe, flags: RunFlags) -> Recipe:
    """The recipe with the changes of the flags. Raises ConfigError if a flag does not fit the recipe."""
    epochs, patience = flags.epochs or recipe.epochs, flags.patience or recipe.patience
    if patience and recipe.keeps_last:
        raise ConfigError(f"--patience: {recipe.name} keeps the last epoch, not the best, and cannot stop early")
    if patience and patience >= epochs:
        raise ConfigError(
            f"--patience: wanted fewer than the run's {epochs} epochs, or it has no effect; got {patience}"
        )
    augmentation = None if flags.no_augment else recipe.augmentation
    tuning = None if flags.no_augment or flags.epochs else recipe.tuning
    return replace(recipe, epochs=epochs, patience=patience, augmentation=augmentation, tuning=tuning)


@contextmanager
def less_noise() -> Iterator[None]:
    """Keep back what TensorFlow writes to stderr on import, and then write it without its INFO lines.

    TF_CPP_MIN_LOG_LEVEL has no effect on the lines that TensorFlow writes before its logging is set up.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            sys.stderr.writelines(line for line in held if not _NOISE.match(line))


def exit_code(recipe: Recipe, test_accuracy: float) -> int:
    """3 if a recipe that no flag changed missed its target, otherwise 0. A teacher of any path belongs to a recipe."""
    taught = recipe.distillation
    unmodified = replace(recipe, distillation=replace(taught, teacher="")) if taught else recipe
    if unmodified != ALL[recipe.name] or test_accuracy >= recipe.target_accuracy:
        return 0
    print(f"below the target of {recipe.name}: wanted {recipe.target_accuracy}, found {test_accuracy}", file=sys.stderr)
    return 3
