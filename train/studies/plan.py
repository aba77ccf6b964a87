"""What is asked of a study -> its runs, finished or not, and which of them can be compared.

Enters: a `Plan`, finished `Run`s. Leaves: `Job`s. Does not know: Keras, images, how a run is trained.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.recipes.recipe import Augmentation, Recipe, describe
from train.studies.catalogue import Study, Trial, Value
from train.studies.results import Run

DECISIVE = (
    *("net", "dataset", "epochs", "batch_size", "validation_count", "label_smoothing", "augmentation"),
    *("optimizer", "peak_learning_rate", "warmup_epochs"),
)
"""The settings of a recipe that a run's figures depend on. The others name it, end it early, or shape the file that is
made of it, and may change without making finished runs foreign."""


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    study: Study
    base: Recipe
    values: tuple[Value, ...]
    seeds: tuple[int, ...]
    train_count: int | None
    """Training images that were chosen of all; None: none were left out."""
    precision: str
    """`float32` or `bfloat16`."""


@dataclass(frozen=True)
class Job:
    """One run that is asked for, finished or not."""

    value: Value
    seed: int
    trial: Trial
    settings: dict[str, Any]
    """As `Run.settings`."""


def find_key(job: Job | Run) -> str:
    """Of the value, the seed and what decides a run: a job and the run that came of it have the same."""
    parts = [job.value, job.seed, select_decisive(job.settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def plan_jobs(plan: Plan) -> list[Job]:
    """Every run of a plan; a seed for all values before the next seed, so that half a study says something already."""
    trials = {value: plan.study.vary(plan.base, value) for value in plan.values}
    return [
        Job(value, seed, trial, describe_trial(trial, plan)) for seed in plan.seeds for value, trial in trials.items()
    ]


def describe_trial(trial: Trial, plan: Plan) -> dict[str, Any]:
    """All that decides a run but its seed, as it comes back from a line of JSON."""
    more = {
        "pretraining_epochs": trial.pretraining_epochs,
        "train_count": plan.train_count,
        "precision": plan.precision,
        "is_balanced": isinstance(trial.recipe.augmentation, Augmentation),
    }
    settings: dict[str, Any] = json.loads(json.dumps(describe(trial.recipe) | more))
    return select_decisive(settings)


def select_decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a run, of settings that may hold more: those of older runs do, and never balanced the classes."""
    names = (*DECISIVE, "pretraining_epochs", "train_count", "precision")
    return {name: settings[name] for name in names} | {"is_balanced": settings.get("is_balanced", False)}


def is_comparable(run: Run, plan: Plan) -> bool:
    """Whether a run is what this plan would train for its value: of the same epochs, images, precision and recipe."""
    try:
        return select_decisive(run.settings) == describe_trial(plan.study.vary(plan.base, run.value), plan)
    except ValueError:  # a value for which there are too few epochs
        return False
