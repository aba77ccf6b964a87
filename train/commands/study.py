"""`python -m train.study NAME`: train a named comparison over values and seeds, for hours if need be.

Enters: flags. Leaves: `<out>/<study>-<dataset>/` with results.jsonl (a line per finished run), table.md and plot.png,
and an exit code: 0 done; 2 bad usage; 1 otherwise, an interruption too. The same command goes on where it was.
Does not know: how a net is fitted, what a study varies. `--help`, `--list` and usage errors answer without TensorFlow.

Runs are compared by training images that are held out; the test images are loaded with the others and never looked at.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve.errors import ConfigError
from train.commands.recipe import less_noise, run
from train.data.datasets import Dataset, Part, load
from train.flags import add_data_flag, add_precision_flag, read_positive, read_seed
from train.recipes.recipe import Recipe
from train.studies.catalogue import BASES, STUDIES, Study, Value
from train.studies.plan import Plan
from train.studies.runner import Material, pursue

SUBSET_SEED = 1


@dataclass(frozen=True)
class StudyFlags:
    """A study as it was asked for."""

    study: Study
    base: Recipe
    values: tuple[Value, ...]
    seeds: tuple[int, ...]
    train_count: int | None
    precision: str | None
    data: Path | None
    out: Path


def main() -> int:
    """Parse the flags, and list the studies or run one."""
    flags = parse_flags()
    if flags is None:
        print(*(f"{study.name:14}{study.question}" for study in STUDIES.values()), sep="\n")
        return 0
    return run(lambda: run_study(flags), lambda: "finished runs are kept; the same command goes on from here")


def parse_flags() -> StudyFlags | None:
    """The study that was asked for, None for the list of all; exits with code 2 on bad usage."""
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
    given = parser.parse_args()
    return None if given.list else _complete(parser, given)


def _complete(parser: argparse.ArgumentParser, given: argparse.Namespace) -> StudyFlags:
    """Find the study, its base recipe and its values; exits with code 2 where flags do not fit together."""
    if given.name is None:
        parser.error("wanted the NAME of a study; --list prints them")
    if given.epochs and given.name == "epochs":
        parser.error("--epochs: the study `epochs` has its epochs from --values")
    study, base = STUDIES[given.name], BASES[given.dataset]
    base = replace(base, epochs=given.epochs or base.epochs, batch_size=given.batch_size or base.batch_size)
    try:
        values = read_values(study, given.values)
        for value in values:
            study.vary(base, value)
    except ValueError as error:
        parser.error(f"--values and --epochs of {given.name}: {error}")
    return StudyFlags(study, base, values, given.seeds, given.train_count, given.precision, given.data, given.out)


def read_values(study: Study, text: str | None) -> tuple[Value, ...]:
    """The study's own, or those named, each once. Raises ValueError."""
    return study.values if text is None else tuple(dict.fromkeys(study.read(part) for part in text.split(",")))


def read_seeds(text: str) -> tuple[int, ...]:
    """A flag's seeds, each once."""
    return tuple(dict.fromkeys(map(read_seed, text.split(","))))


def run_study(flags: StudyFlags) -> int:
    """Load the data, then train what is not finished."""
    dataset = load(flags.base.dataset, flags.data, flags.base.validation_count)
    material = Material(choose_images(dataset, flags.train_count), dataset.validation, len(dataset.labels["en"]))
    with less_noise():
        from train.nets import precision  # TensorFlow comes in here: after the flags and the dataset, which fail faster
    chosen = precision.choose_precision(flags.precision)
    plan = Plan(flags.study, flags.base, flags.values, flags.seeds, flags.train_count, chosen)
    pursue(
        plan,
        material,
        flags.out / f"{flags.study.name}-{flags.base.dataset}",
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
