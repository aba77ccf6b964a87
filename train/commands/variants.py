"""`python -m train.variants FOLDER --precision int8`: a model.onnx -> a smaller and faster file beside it.

Enters: flags. Leaves: the file, and lines with its figures; exit code 0, or 1 if a file or the dataset cannot be used.
Does not know: how a file is converted (`train/export/variants.py`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve.errors import ConfigError, FolderUnusable
from serve.model_file.spec import ModelSpec
from serve.program import name_program
from train.commands.converting.publish import CONVERTED
from train.commands.ending import run
from train.commands.familiarity import gather_images
from train.data.datasets import Dataset, load
from train.data.examples import read_examples
from train.data.labels import Labels
from train.data.pictures import read_digest, read_folder
from train.data.sources import SOURCES
from train.export.onnx_file import read_model_file
from train.export.variants import TOLERANCES, write_variant
from train.flags import add_data_flag, read_flags
from train.recipes.recipe import read_augmentation
from train.run_folder import name_errors


@dataclass(frozen=True)
class VariantFlags:
    """The flags of `python -m train.variants`."""

    folder: Path
    precision: str
    data: Path | None
    images: Path | None
    skip_broken: bool


def parse_flags(arguments: Sequence[str] | None) -> VariantFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog=name_program("train.variants"), description="Convert a model file to fewer bits."
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="convert FOLDER/model.onnx, as in models/cifar10-cnn/1")
    add("--precision", choices=tuple(TOLERANCES), required=True, help="write FOLDER/model.<precision>.onnx")
    add_data_flag(parser)
    images = "calibrate and measure a model of your own on the pictures in DIR, best in class folders"
    add("--images", type=Path, metavar="DIR", help=images)
    add("--skip-broken", action="store_true", help="leave out pictures that cannot be used, instead of stopping")
    return read_flags(parser, VariantFlags, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, convert, print the figures, and return the exit code."""
    flags = parse_flags(arguments)
    return run(lambda: convert(flags), lambda: f"no model.{flags.precision}.onnx was written")


def load_published(spec: ModelSpec, folder: Path | None) -> Dataset:
    """The published dataset that a model was trained on. Raises DatasetError, and ConfigError if there is none.

    If the file gives familiarity, those images are held out that its training held out.
    """
    if spec.dataset not in SOURCES:
        raise ConfigError(
            f"--images: wanted a folder of pictures to calibrate and measure on, as {spec.name} is a model of your own"
        )
    held_out = spec.recipe.get("validation_count") if spec.familiarity else 0
    return load(spec.dataset, folder, held_out if isinstance(held_out, int) else 0)


def read_own(spec: ModelSpec, folder: Path, skip_broken: bool) -> Dataset:
    """Pictures as a model takes them: those to calibrate on as `train`, those of the figures as `test`.

    The folder that a model was trained on is split as then; any other as `train.convert` splits it. If the file names
    the folder of its training, the test labels of any other are -1, as it may hold pictures that were trained on.
    Raises FolderUnusable, and ConfigError for another folder if the file gives familiarity.
    """
    digest = "" if CONVERTED in spec.recipe else read_digest(spec.dataset)
    if digest and (pictures := read_training(spec, folder, skip_broken)):
        return pictures
    examples = read_examples(folder, Labels(spec.labels, {}), spec.input, spec.prepare, skip_broken)
    if spec.familiarity:
        raise ConfigError(
            f"--images: wanted the pictures that {spec.name} was trained on ({spec.dataset}), as its familiarity is "
            f"fitted to them anew; got others in {folder}"
        )
    calibration, figures = examples.calibration if len(examples.calibration) else examples.figures, examples.figures
    if digest:
        figures = replace(figures, labels=np.full_like(figures.labels, -1))
        print(f"measured no accuracy: wanted the pictures of {spec.dataset}; others may have been trained on")
    return Dataset(spec.dataset, calibration, calibration.take(np.arange(0)), figures, spec.labels)


def read_training(spec: ModelSpec, folder: Path, skip_broken: bool) -> Dataset | None:
    """The pictures that a model was trained on, split as then; None if a folder holds others, or too few to split."""
    try:
        dataset = read_folder(folder, spec.input, spec.prepare, skip_broken).dataset
    except FolderUnusable:
        return None
    return dataset if read_digest(dataset.name) == read_digest(spec.dataset) else None


def convert(flags: VariantFlags) -> int:
    """Convert the file of a folder and print the figures. Returns the exit code."""
    _, before = read_model_file(flags.folder / "model.onnx")
    own, data = flags.images, flags.data
    dataset = read_own(before, own, flags.skip_broken) if own else load_published(before, data)
    with name_errors(flags.folder):
        images = (
            gather_images(dataset, read_augmentation(before.recipe), before.prepare) if before.familiarity else None
        )
        after = write_variant(flags.folder, flags.precision, dataset, images)
    parity = after.recipe["variant_parity"]
    print(f"test accuracy {after.accuracy}, of the float32 file {before.accuracy}")
    print(f"largest difference of a probability {parity['largest_difference']:.3g}")
    print(f"wrote {flags.folder / f'model.{flags.precision}.onnx'}")
    return 0
