"""`python -m train.study NAME`: train a named comparison over values and seeds, for hours if need be.

Enters: flags. Leaves: `<out>/<study>-<dataset>/` with results.jsonl (a line per finished run), table.md and plot.png,
and an exit code: 0 done; 2 bad usage; 1 otherwise, an interruption too. The same command goes on where it was.
Does not know: how a net is fitted, what a study varies. `--help`, `--list` and usage errors answer without TensorFlow.

Runs are compared by training images that are held out; the test images are loaded with the others and never looked at.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from serve.errors import ConfigError
from train.commands.recipe import less_noise, run
from train.data.datasets import Dataset, Part, load
from train.flags import add_data_flag, add_precision_flag, read_positive, read_seed
from train.studies.catalogue import BASES, STUDIES, Study, Value
from train.studies.plan import Plan
from train.studies.runner import Material, pursue

SUBSET_SEED = 1


def main() -> int:
    """Parse the flags, and list the studies or run one."""
    flags = parse_flags()
    if flags.list:
        print(*(f"{study.name:14}{study.question}" for study in STUDIES.values()), sep="\n")
        return 0
    return run(lambda: run_study(flags), lambda: "finished runs are kept; the same command goes on from here")


def parse_flags() -> argparse.Namespace:
    """The flags, with the study, its base recipe and its values as they will be used; exits with code 2 on bad ones."""
    parser = argparse.ArgumentParser(prog="python -m train.study", description="Compare values of one setting.")
    parser.add_argument("name", nargs="?", choices=STUDIES, metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--list", action="store_true", help="print the studies with their questions")
    parser.add_argument("--dataset", choices=BASES, default="cifar10", help="default: cifar10")
    parser.add_argument("--values", metavar="A,B,...", help="default: the study's own")
    parser.add_argument("--seeds", type=read_seeds, default=(0, 1, 2), metavar="A,B,...", help="default: 0,1,2")
    parser.add_argument("--epochs", type=read_positive, metavar="N", help="default: the base recipe's")
    parser.add_argument(
        "--batch-size", type=read_positive, metavar="N", help="default: the base recipe's, for all images"
    )
    add_precision_flag(parser)
    parser.add_argument("--train-count", type=read_positive, metavar="N", help="train on N images, always the same")
    add_data_flag(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("runs", "studies"), metavar="DIR", help="default: runs/studies"
    )
    flags = parser.parse_args()
    if not flags.list:
        _complete(parser, flags)
    return flags


def _complete(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Set `study`, `base` and `values`; exits with code 2 where flags do not fit together."""
    if flags.name is None:
        parser.error("wanted the NAME of a study; --list prints them")
    if flags.epochs and flags.name == "epochs":
        parser.error("--epochs: the study `epochs` has its epochs from --values")
    flags.study, base = STUDIES[flags.name], BASES[flags.dataset]
    flags.base = replace(base, epochs=flags.epochs or base.epochs, batch_size=flags.batch_size or base.batch_size)
    try:
        flags.values = read_values(flags.study, flags.values)
        for value in flags.values:
            flags.study.vary(flags.base, value)
    except ValueError as error:
        parser.error(f"--values and --epochs of {flags.name}: {error}")


def read_values(study: Study, text: str | None) -> tuple[Value, ...]:
    """The study's own, or those named, each once. Raises ValueError."""
    return study.values if text is None else tuple(dict.fromkeys(study.read(part) for part in text.split(",")))


def read_seeds(text: str) -> tuple[int, ...]:
    """A flag's seeds, each once."""
    return tuple(dict.fromkeys(map(read_seed, text.split(","))))


def run_study(flags: argparse.Namespace) -> int:
    """Load the data, then train what is not finished."""
    dataset = load(flags.dataset, flags.data, flags.base.validation_count)
    material = Material(choose_images(dataset, flags.train_count), dataset.validation, len(dataset.labels["en"]))
    with less_noise():
        from train.nets import precision  # TensorFlow comes in here: after the flags and the dataset, which fail faster
    chosen = precision.choose_precision(flags.precision)
    plan = Plan(flags.study, flags.base, flags.values, flags.seeds, flags.train_count, chosen)
    pursue(
        plan,
        material,
        flags.out / f"{flags.name}-{flags.dataset}",
    )
    return 0


def choose_images(dataset: Dataset, count: int | None) -> Part:
    """`count` training images, always the same ones, or all of them. Raises ConfigError."""
    train = dataset.train
    if count is None:
        return train
    if count > len(train):
        raise ConfigError(f"--train-count: wanted at most {len(train)}, as {len(dataset.validation)} are held out")
    return train.take(np.sort(np.random.default_rng(SUBSET_SEED).permutation(len(train))[:count]))
