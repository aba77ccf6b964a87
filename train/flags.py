"""The flags that several commands share, and how the text of a flag is read.

Enters: an argparse parser, or a flag's text. Leaves: frozen flags, numbers, or argparse's error with what was wanted.
Does not know: what the flags do.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serve.model_file.folder import NAME_RULE, follows_name_rule

HIGHEST_SEED = 2**32 - 1
"""The largest seed that NumPy and Keras take."""
PRECISIONS = ("auto", "float32", "bfloat16")
Flags = TypeVar("Flags")


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """The flags of every command that trains; None if a flag was not given."""

    out: Path
    epochs: int | None = None
    seed: int | None = None
    precision: str | None = None
    no_augment: bool = False
    resume: bool = False
    patience: int | None = None
    tensorboard: bool = False


def read_flags(parser: argparse.ArgumentParser, kind: type[Flags], arguments: Sequence[str] | None = None) -> Flags:
    """Read a command line into a frozen dataclass that has a field for each flag. Exits with code 2 on bad usage."""
    return kind(**vars(parser.parse_args(arguments)))


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `RunFlags`, except `--epochs`."""
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="write to DIR/<model>/<version>; default: runs")
    add("--seed", type=read_seed, metavar="N", help="draw weights, order and augmentation from N; default: 0")
    add_precision_flag(parser)
    add("--no-augment", action="store_true", help="train on the images as they are")
    add("--resume", action="store_true", help="continue an interrupted run with the same flags")
    patience = "stop after N epochs in a row without a better validation accuracy; default: never"
    add("--patience", type=read_positive, metavar="N", help=patience)
    add("--tensorboard", action="store_true", help="also write TensorBoard's event files")


def add_data_flag(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the published datasets, for `train.data.datasets.load`."""
    where = "read datasets from DIR; default: INKLING_DATA, or else ~/.cache/inkling"
    parser.add_argument("--data", type=Path, metavar="DIR", help=where)


def add_precision_flag(parser: argparse.ArgumentParser) -> None:
    """Add the precision of the arithmetic, for `train.nets.precision.choose_precision`."""
    help_ = "train in these numbers; default: auto, the faster ones on this hardware"
    parser.add_argument("--precision", choices=PRECISIONS, help=help_)


def read_name(text: str) -> str:
    """Read the name of a model. Raises argparse.ArgumentTypeError."""
    if not follows_name_rule(text):
        raise argparse.ArgumentTypeError(f"wanted {NAME_RULE}; got {text!r}")
    return text


def read_count(text: str) -> int:
    """Read a whole number from 0. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wanted a whole number from 0; got {text!r}")
    return int(text)


def read_positive(text: str) -> int:
    """Read a whole number from 1. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1; got {text!r}")
    return int(text)


def read_seed(text: str) -> int:
    """Read a seed from 0 to HIGHEST_SEED. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) > HIGHEST_SEED:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 0 to {HIGHEST_SEED}; got {text!r}")
    return int(text)
