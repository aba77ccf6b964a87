"""The flags that several commands share, and how the text of a flag is read.

Enters: an argparse parser, or a flag's text. Leaves: frozen flags, numbers, or argparse's own error with what was
wanted. Does not know: what the flags do.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

HIGHEST_SEED = 2**32 - 1
"""NumPy and Keras take no larger seed."""
PRECISIONS = ("auto", "float32", "bfloat16")
Flags = TypeVar("Flags")


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """What each command that trains takes; None where the flag was not given."""

    out: Path
    epochs: int | None = None
    seed: int | None = None
    precision: str | None = None
    no_augment: bool = False
    resume: bool = False
    patience: int | None = None
    tensorboard: bool = False


def read_flags(parser: argparse.ArgumentParser, kind: type[Flags], arguments: Sequence[str] | None = None) -> Flags:
    """A command line as a frozen dataclass with a field for each flag; exits with code 2 on bad usage."""
    return kind(**vars(parser.parse_args(arguments)))


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that trains."""
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument("--seed", type=read_seed, metavar="N", help="of weights, order and augmentation; default: 0")
    add_precision_flag(parser)
    parser.add_argument("--no-augment", action="store_true", help="train on the images as they are")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same flags")
    parser.add_argument(
        "--patience", type=read_positive, metavar="N", help="stop after N epochs without a better validation accuracy"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write the epochs for TensorBoard too")


def add_data_flag(parser: argparse.ArgumentParser) -> None:
    """Where the published datasets lie; `data.load` reads it."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="default: INKLING_DATA, else ~/.cache/inkling")


def add_precision_flag(parser: argparse.ArgumentParser) -> None:
    """The numbers to train in; `precision.choose_precision` reads it."""
    parser.add_argument("--precision", choices=PRECISIONS, help="default: auto, what the hardware is fast in")


def read_count(text: str) -> int:
    """A flag's whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wanted a whole number from 0; got {text!r}")
    return int(text)


def read_positive(text: str) -> int:
    """A flag's whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1; got {text!r}")
    return int(text)


def read_seed(text: str) -> int:
    """A flag's seed, as NumPy takes it."""
    if not text.isdecimal() or int(text) > HIGHEST_SEED:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 0 to {HIGHEST_SEED}; got {text!r}")
    return int(text)
