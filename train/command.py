"""A command line -> a trained, exported model. What `train.mnist` and `train.cifar` share.

Enters: flags. Leaves: `<out>/<model>/<version>/` with model.onnx, model.keras and history.csv, and an exit code:
0 done; 3 an unmodified recipe ended below its target accuracy (the files are written all the same); 2 bad usage;
1 otherwise. Does not know: how anything is computed. `--help` and usage errors answer without TensorFlow.
"""

import argparse
import csv
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.errors import InklingError
from train.data import load
from train.evaluate import measure_class_accuracy
from train.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from train.data import Dataset
    from train.export import Exported
    from train.fit import Progress

PRECISIONS = ("auto", "float32", "bfloat16")
_NOISE = re.compile(r"I\d{4} |WARNING: All log messages before absl::InitializeLog")


def main(module: str, default: str) -> int:
    """Parse the flags of `python -m train.<module>`, train, and return the exit code."""
    flags = parse_flags(module, default)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM cleans up as Ctrl-C does
    unfinished = flags.out / flags.model / "unfinished.npz"
    try:
        return train(flags, unfinished)
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
    parser.add_argument("--epochs", type=_positive, metavar="N", help="default: the recipe's")
    parser.add_argument("--data", type=Path, metavar="DIR", help="default: INKLING_DATA, else ~/.cache/inkling")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights, order and augmentation; default: 0"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="default: what the hardware has")
    parser.add_argument("--no-augment", action="store_true", help="train on the images as they are")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same flags")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def train(flags: argparse.Namespace, unfinished: Path) -> int:
    """The whole way: dataset, fit, export, report."""
    recipe, source_commit = adapt(RECIPES[flags.model], flags), find_source_commit()
    dataset = load(recipe.dataset, flags.data)
    with less_noise():
        import keras  # TensorFlow comes in here: after the flags and the dataset, which fail faster

        from train import export, fit, models, precision
    if unfinished.exists() and not flags.resume:
        print(f"starting over; an interrupted run is in {unfinished}, and --resume would go on with it")
    chosen = precision.choose_precision(flags.precision)
    print(f"{recipe.name}: {recipe.epochs} epochs in {chosen} on {keras.backend.backend()}, seed {flags.seed}")
    keras.utils.set_random_seed(flags.seed)
    model = models.build(recipe.name, dataset.shape, len(dataset.labels["en"]), precision.POLICIES[chosen])
    progress = fit.fit(
        model,
        dataset.train_images,
        dataset.train_labels,
        recipe,
        seed=flags.seed,
        unfinished=unfinished,
        resume=flags.resume,
    )
    model = models.build_float32(model)
    facts = describe_run(recipe, progress, chosen)
    with partial_folder(flags.out / recipe.name) as partial:
        exported = export.export(
            model, dataset, partial, prepare=recipe.prepare, recipe=facts, source_commit=source_commit
        )
        model.save(partial / "model.keras")
        write_history(progress.history, partial / "history.csv")
        folder = publish(partial)
    unfinished.unlink()
    report(exported, progress, dataset, folder, flags.out)
    return exit_code(recipe, exported.spec.test_accuracy)


def adapt(recipe: Recipe, flags: argparse.Namespace) -> Recipe:
    """The recipe with what the flags change."""
    epochs = flags.epochs or recipe.epochs
    return dataclasses.replace(recipe, epochs=epochs, augmentation=None if flags.no_augment else recipe.augmentation)


def describe_run(recipe: Recipe, progress: "Progress", precision: str) -> dict[str, Any]:
    """The metadata's `recipe`: the settings used and what came of them; JSON values alone."""
    left_out = {"name", "dataset", "prepare", "measured_accuracy"}  # said elsewhere in the metadata, or not settings
    settings = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in left_out}
    return settings | {
        "seed": progress.settings["seed"],
        "precision": precision,
        "best_epoch": progress.best_epoch,
        "validation_accuracy": progress.final_accuracy,
    }


@contextmanager
def partial_folder(model_folder: Path) -> Iterator[Path]:
    """A hidden folder to put a version together in; whatever is left in it when the block ends goes."""
    partial = model_folder / f".{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path) -> Path:
    """Give a finished folder its version, the highest beside it plus one, in one step."""
    names = (path.name for path in partial.parent.iterdir())
    highest = max((int(name) for name in names if name.isdecimal()), default=0)
    return partial.rename(partial.parent / str(highest + 1))


def write_history(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """A row per epoch."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def find_source_commit() -> str:
    """The commit of this checkout, with `-dirty` where its code differs from it; `unknown` outside a checkout."""
    head = _ask_git("rev-parse", "HEAD")
    changes = _ask_git("status", "--porcelain", "--", "train", "serve")
    return "unknown" if head is None else head + ("-dirty" if changes else "")


def _ask_git(*arguments: str) -> str | None:
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


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


def report(exported: "Exported", progress: "Progress", dataset: "Dataset", folder: Path, out: Path) -> None:
    """What was reached, where it is, and how to serve it."""
    spec, parity = exported.spec, exported.parity
    by_class = measure_class_accuracy(exported.probabilities, dataset.test_labels)
    print(f"validation accuracy {progress.best_accuracy:.4f} in epoch {progress.best_epoch}, whose weights were kept")
    if progress.settings["recipe"]["augmentation"]:  # else nothing was balanced
        print(f"validation accuracy {progress.final_accuracy:.4f} with the classes balanced on plain images")
    print(f"test accuracy {spec.test_accuracy:.4f} over {spec.test_count} images, by the ONNX file")
    print(
        "  " + ", ".join(f"{label} {accuracy:.3f}" for label, accuracy in zip(spec.labels["en"], by_class, strict=True))
    )
    print(
        f"parity with Keras over {parity.image_count} images: largest difference of a probability "
        f"{parity.largest_difference:.2g}, {parity.changed_classes} other classes"
    )
    print(f"wrote {folder / 'model.onnx'}, model.keras and history.csv beside it")
    print("serve it with")
    print(f"  python -m serve --models {out}")
    print(f"  python -m serve.client --model {spec.name} image.png")


def exit_code(recipe: Recipe, test_accuracy: float) -> int:
    """3 where a recipe that no flag changed missed its target."""
    if recipe != RECIPES[recipe.name] or test_accuracy >= recipe.target_accuracy:
        return 0
    print(f"below the target of {recipe.name}: wanted {recipe.target_accuracy}, found {test_accuracy}", file=sys.stderr)
    return 3
