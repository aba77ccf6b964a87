"""`python -m train.variants FOLDER --precision int8`: a model.onnx -> a smaller and faster file beside it.

Enters: flags. Leaves: the file, and lines with its figures; exit code 0, or 1 if a file or the dataset cannot be used.
Does not know: how a file is converted (`train/export/variants.py`).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import InklingError
from train.data.datasets import load
from train.export.onnx_file import read_model_file
from train.export.variants import TOLERANCES, write_variant
from train.flags import add_data_flag, read_flags


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
    try:
        _, before = read_model_file(flags.folder / "model.onnx")
        after = write_variant(flags.folder, flags.precision, load(before.dataset, flags.data))
    except (InklingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    parity = after.recipe["variant_parity"]
    print(f"test accuracy {after.test_accuracy:.4f}, of the float32 file {before.test_accuracy:.4f}")
    print(f"largest difference of a probability {parity['largest_difference']:.3g}")
    print(f"wrote {flags.folder / f'model.{flags.precision}.onnx'}")
    return 0
