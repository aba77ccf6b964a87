"""`python -m train.study NAME`: compare values of one setting over several seeds.

Enters: flags. Leaves: `<out>/<study>-<dataset>/` with results.jsonl (a line for each finished run), table.md and
plot.png. The exit code is 0: done; 2: bad usage; 1: otherwise. After an interruption the same command continues.
Does not know: how a net is fitted, what a study varies. `--help`, `--list` and usage errors need no TensorFlow.

Runs are compared on held-out training images. The test images are loaded with the others and not used.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serve.errors import ConfigError
from serve.program import name_program
from train.commands.ending import run
from train.commands.recipe import less_noise
from train.data.datasets import Dataset, Part, load
from train.flags import add_data_flag, add_precision_flag, read_positive, read_seed
from train.recipes.recipe import Recipe
from train.studies.catalogue import BASES, STUDIES, Study, Value
from train.studies.plan import Plan
from train.studies.runner import Elsewhere, Material, run_plan

SUBSET_SEED = 1  # of the choice of --train-count images


@dataclass(frozen=True)
class StudyFlags:
    """The flags of `python -m train.study`, with names replaced by what they stand for."""

    study: Study
    base: Recipe
    values: tuple[Value, ...]
    seeds: tuple[int, ...]
    train_count: int | None
    precision: str | None
    data: Path | None
    out: Path
    ray: str | None
    """The address of a cluster."""
    ray_cores: int
    """Cores of one run there."""


def main() -> int:
    """Parse the flags, and list the studies or run one."""
    flags = parse_flags()
    if flags is None:
        return run(list_studies, lambda: "nothing was written")
    return run(lambda: run_study(flags), lambda: "finished runs are kept; the same command continues")


def list_studies() -> int:
    """Print the studies with their questions. Returns the exit code."""
    print(*(f"{study.name:14}{study.question}" for study in STUDIES.values()), sep="\n")
    return 0


def parse_flags() -> StudyFlags | None:
    """Read the flags; None stands for `--list`. Exits with code 2 on bad usage."""
    about = "Compare values of one setting over several seeds."
    parser = argparse.ArgumentParser(prog=name_program("train.study"), description=about)
    add = parser.add_argument
    add("name", nargs="?", choices=STUDIES, metavar="NAME", help=f"run this study: {', '.join(STUDIES)}")
    add("--list", action="store_true", help="print the studies with their questions, and exit")
    add("--dataset", choices=BASES, default="cifar10", help="train on this dataset; default: cifar10")
    add("--values", metavar="A,B,...", help="compare these values; default: the study's own")
    add("--seeds", type=read_seeds, default=(0, 1, 2), metavar="A,B,...", help="train with these seeds; default: 0,1,2")
    add("--epochs", type=read_positive, metavar="N", help="train N epochs; default: the base recipe's")
    add("--batch-size", type=read_positive, metavar="N", help="take N images a step; default: the base recipe's")
    add_precision_flag(parser)
    add("--train-count", type=read_positive, metavar="N", help="train on the same N images each time; default: all")
    add_data_flag(parser)
    where = "write to DIR/<study>-<dataset>; default: runs/studies"
    add("--out", type=Path, default=Path("runs", "studies"), metavar="DIR", help=where)
    add("--ray", metavar="ADDRESS", help="train the runs side by side over the Ray cluster at ADDRESS; default: here")
    add("--ray-cores", type=read_positive, default=1, metavar="N", help="give each run there N cores; default: 1")
    given = parser.parse_args()
    return None if given.list else _complete(parser, given)


def _complete(parser: argparse.ArgumentParser, given: argparse.Namespace) -> StudyFlags:
    """Find the study, its base recipe and its values. Exits with code 2 if flags contradict each other."""
    if given.name is None:
        parser.error("wanted the NAME of a study; --list prints them")
    if given.epochs and given.name == "epochs":
        parser.error("--epochs: the study `epochs` takes its epochs from --values")
    study, base = STUDIES[given.name], BASES[given.dataset]
    base = replace(base, epochs=given.epochs or base.epochs, batch_size=given.batch_size or base.batch_size)
    try:
        values = (
            study.values if given.values is None else tuple(dict.fromkeys(map(study.read, given.values.split(","))))
        )
        for value in values:
            study.vary(base, value)
    except ValueError as error:
        parser.error(f"--values and --epochs of {given.name}: {error}")
    return StudyFlags(
        study,
        base,
        values,
        given.seeds,
        given.train_count,
        given.precision,
        given.data,
        given.out,
        given.ray,
        given.ray_cores,
    )


def read_seeds(text: str) -> tuple[int, ...]:
    """Read seeds, each once. Raises argparse.ArgumentTypeError."""
    return tuple(dict.fromkeys(map(read_seed, text.split(","))))


def run_study(flags: StudyFlags) -> int:
    """Load the data, and train the runs that are not finished. Returns the exit code."""
    dataset = load(flags.base.dataset, flags.data, flags.base.validation_count)
    material = Material(choose_images(dataset, flags.train_count), dataset.validation, len(dataset.labels["en"]))
    with less_noise():
        from train.nets import precision  # not above: TensorFlow is slow to import
    chosen = precision.choose_precision(flags.precision)
    plan = Plan(flags.study, flags.base, flags.values, flags.seeds, flags.train_count, chosen)
    run_plan(
        plan, material, flags.out / f"{flags.study.name}-{flags.base.dataset}", _find_cluster(flags, plan, material)
    )
    return 0


def _find_cluster(flags: StudyFlags, plan: Plan, material: Material) -> Elsewhere | None:
    """What trains runs over the cluster of the flags; None if they name none. Raises ConfigError."""
    if flags.ray is None:
        return None
    from serve.cluster import connect  # here: only this form needs the extra [ray]
    from train.studies.cluster import train_over_ray

    ray = connect(flags.ray)
    return lambda jobs: train_over_ray(ray, jobs, plan, material, flags.ray_cores)


def choose_images(dataset: Dataset, count: int | None) -> Part:
    """Choose `count` training images, always the same ones; None takes all. Raises ConfigError."""
    train = dataset.train
    if count is None:
        return train
    if count > len(train):
        raise ConfigError(f"--train-count: wanted at most {len(train)}, as {len(dataset.validation)} are held out")
    return train.take(np.sort(np.random.default_rng(SUBSET_SEED).permutation(len(train))[:count]))
