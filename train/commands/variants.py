"""`python -m train.variants FOLDER --precision int8`: a model.onnx -> a smaller and faster file beside it.

Enters: flags. Leaves: the file, and lines with its figures; exit code 0, or 1 if a file or the dataset cannot be used.
Does not know: how a file is converted (`train/export/variants.py`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve.errors import ConfigError, ModelFileError
from serve.model_file.spec import ModelSpec
from serve.program import name_program
from train.commands.converting.publish import CONVERTED
from train.commands.ending import run
from train.commands.familiarity import gather_images
from train.data.datasets import Dataset, load
from train.data.examples import read_examples
from train.data.labels import Labels
from train.data.pictures import read_folder
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


def read_own(spec: ModelSpec, flags: VariantFlags) -> Dataset:
    """Pictures as a model takes them: those to calibrate on as `train`, those of the figures as `test`.

    The folder that a model was trained on is split as then; any other as `train.convert` splits it.
    """
    assert flags.images is not None  # noqa: S101  # the caller asks
    if CONVERTED not in spec.recipe:
        pictures = read_folder(flags.images, spec.input, spec.prepare, flags.skip_broken)
        if pictures.dataset.name == spec.dataset:
            return pictures.dataset
    examples = read_examples(flags.images, Labels(spec.labels, {}), spec.input, spec.prepare, flags.skip_broken)
    calibration = examples.calibration if len(examples.calibration) else examples.figures
    return Dataset(spec.dataset, calibration, calibration.take(np.arange(0)), examples.figures, spec.labels)


def convert(flags: VariantFlags) -> int:
    """Convert the file of a folder and print the figures. Returns the exit code."""
    path = flags.folder / "model.onnx"
    try:
        _, before = read_model_file(path)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    dataset = read_own(before, flags) if flags.images else load_published(before, flags.data)
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
