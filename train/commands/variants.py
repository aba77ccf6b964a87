"""`python -m train.variants FOLDER --precision int8`: a model.onnx -> a smaller and faster file beside it.

Enters: flags. Leaves: the file, and lines with its figures; exit code 0, or 1 if a file or the dataset cannot be used.
Does not know: how a file is converted (`train/export/variants.py`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import ModelFileError
from train.commands.ending import run
from train.data.datasets import load
from train.export.onnx_file import read_model_file
from train.export.variants import TOLERANCES, write_variant
from train.flags import add_data_flag, read_flags
from train.run_folder import name_errors


@dataclass(frozen=True)
class VariantFlags:
    """The flags of `python -m train.variants`."""

    folder: Path
    precision: str
    data: Path | None


def parse_flags(arguments: Sequence[str] | None) -> VariantFlags:
    """Read the flags. Exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="python -m train.variants", description="Convert a model file to fewer bits.")
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="convert FOLDER/model.onnx, as in models/cifar10-cnn/1")
    add("--precision", choices=tuple(TOLERANCES), required=True, help="write FOLDER/model.<precision>.onnx")
    add_data_flag(parser)
    return read_flags(parser, VariantFlags, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the flags, convert, print the figures, and return the exit code."""
    flags = parse_flags(arguments)
    return run(lambda: convert(flags), lambda: f"no model.{flags.precision}.onnx was written")


def convert(flags: VariantFlags) -> int:
    """Convert the file of a folder and print the figures. Returns the exit code."""
    path = flags.folder / "model.onnx"
    try:
        _, before = read_model_file(path)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    dataset = load(before.dataset, flags.data)
    with name_errors(flags.folder):
        after = write_variant(flags.folder, flags.precision, dataset)
    parity = after.recipe["variant_parity"]
    print(f"test accuracy {after.test_accuracy:.4f}, of the float32 file {before.test_accuracy:.4f}")
    print(f"largest difference of a probability {parity['largest_difference']:.3g}")
    print(f"wrote {flags.folder / f'model.{flags.precision}.onnx'}")
    return 0
