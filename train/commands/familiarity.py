"""`python -m train.familiarity FOLDER`: a model file that exists -> the same file with the output `familiarity`.

Enters: flags. Leaves: the file in its old place, its card, and lines with its figures; exit code 0, or 1 if a file or
the dataset cannot be used. Does not know: how familiarity is measured (`train/export/familiarity/fit.py`).
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import ModelFileError
from serve.model_file.spec import ModelSpec, PrepareSpec
from serve.program import name_program
from train.commands.ending import run
from train.data.datasets import Dataset, Part, load
from train.evaluation.card import replace_familiarity
from train.export.familiarity.fit import FamiliarityImages, add_familiarity
from train.export.onnx_file import measure_self_test, read_model_file, write_model_file
from train.export.passes.cascade import split
from train.export.variants import TOLERANCES
from train.flags import add_data_flag, read_flags
from train.recipes.recipe import Augmentation, Crop, read_augmentation
from train.run_folder import name_errors

FITTED_COUNT = 10000  # training images, as they are and drawn anew
TEST_COUNT = 2000  # test images of the figure that says how many are turned away


@dataclass(frozen=True)
class FamiliarityFlags:
    """The flags of `python -m train.familiarity`."""

    folder: Path
    precision: str
    data: Path | None


def parse_flags(arguments: Sequence[str] | None) -> FamiliarityFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog=name_program("train.familiarity"),
        description="Add the output familiarity to a model file, or fit it anew.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="change FOLDER/model.onnx, as in models/mnist/1")
    parser.add_argument(
        "--precision",
        choices=("float32", *TOLERANCES),
        default="float32",
        help="change FOLDER/model.<precision>.onnx; default: float32, which is FOLDER/model.onnx",
    )
    add_data_flag(parser)
    return read_flags(parser, FamiliarityFlags, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, change the file, print the figures, and return the exit code."""
    flags = parse_flags(arguments)
    return run(lambda: change(flags), lambda: "the model file is unchanged")


def change(flags: FamiliarityFlags) -> int:
    """Add the output to the file of a folder. Returns the exit code."""
    import onnx  # not above: another command's --help needs none

    name = "model.onnx" if flags.precision == "float32" else f"model.{flags.precision}.onnx"
    path = flags.folder / name
    data, before = read_model_file(path)
    model = onnx.load_from_string(data)
    if split(model):
        raise ModelFileError(f"{path}: wanted a file of one net, found a cascade; add it to both nets, and join them")
    with name_errors(flags.folder):
        images = gather_images(load_for(before, flags.data), read_augmentation(before.recipe), before.prepare)
        model, familiarity = add_familiarity(model, images, before.input, before.prepare)
        tolerance = before.self_test.tolerance
        self_test = dataclasses.replace(measure_self_test(model, before.input.shape), tolerance=tolerance)
        after = dataclasses.replace(before, familiarity=familiarity, self_test=self_test)
        write_model_file(model, after, flags.folder, name)
        if flags.precision == "float32":
            replace_familiarity(flags.folder / "README.md", after)
    print("\n".join(describe(after)))
    print(f"wrote {path}")
    return 0


def load_for(spec: ModelSpec, data: Path | None) -> Dataset:
    """The published dataset of a model file, with the images held out that its training held out."""
    count = spec.recipe.get("validation_count", 0)
    return load(spec.dataset, data, count if isinstance(count, int) else 0)


def gather_images(
    dataset: Dataset, augmentation: Augmentation | Crop | None, prepare: PrepareSpec
) -> FamiliarityImages:
    """The images that a familiarity is fitted to and calibrated on, each as it is and drawn anew."""
    from train.fitting.augmentation.views import draw_views  # not above: it imports Keras

    train, test = take_some(dataset.train, FITTED_COUNT), take_some(dataset.test, TEST_COUNT)
    return FamiliarityImages(
        fitted=[(images, train.labels) for images in draw_views(train.images, augmentation, prepare, seed=0)],
        held_out=draw_views(dataset.validation.images, augmentation, prepare, seed=1),
        test=test.images,
    )


def take_some(part: Part, count: int) -> Part:
    """At most `count` images of a part, chosen by chance and in its order."""
    chosen = np.random.default_rng(0).permutation(len(part))[:count]
    return part.take(np.sort(chosen))


def describe(spec: ModelSpec) -> list[str]:
    """The figures of a familiarity, a line for each."""
    if spec.familiarity is None:
        return []
    found = spec.familiarity
    lines = [
        f"familiarity by {found.method}, calibrated on {found.held_out_count:,} held-out images",
        f"below {found.threshold:g}: {found.turned_away:.2%} of the test images",
    ]
    kinds = found.strangers.items()
    return lines + [f"  {kind:16} ROC AUC {each.roc_auc:.4f}, below it {each.caught:.1%}" for kind, each in kinds]
