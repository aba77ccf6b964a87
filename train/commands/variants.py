"""`python -m train.variants FOLDER --precision int8`: a shipped model.onnx -> a smaller and faster file beside it.

Enters: flags. Leaves: the file, and lines that say what it reaches; exit code 0, or 1 where the file or the dataset
cannot be used. Does not know: how a file is converted (`train/export/variants.py`).
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
    """The flags; exits with code 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="python -m train.variants", description="Write a model file in fewer bits.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the version's folder, as models/cifar10-cnn/1")
    parser.add_argument("--precision", choices=tuple(TOLERANCES), required=True)
    add_data_flag(parser)
    return read_flags(parser, VariantFlags, arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 with the accuracy and the distance printed, 1 if the file or the dataset cannot be used."""
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
