"""The request of a study -> its runs, finished or not, and which of them can be compared.

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
"""The settings of a recipe that a run's figures depend on. Others may change without making finished runs foreign."""

LATER: Mapping[str, Any] = {"averaging": 0.0, "distillation": None, "initial": None, "tuning": None}
"""Decisive settings that older runs do not have, each with what these did."""

LATER_OF_AUGMENTATION: Mapping[str, Any] = {"people": 0.0, "cutout_pixels": 0}
"""The same inside an `Augmentation`."""


@dataclass(frozen=True)
class Plan:
    """A study as it was requested."""

    study: Study
    base: Recipe
    values: tuple[Value, ...]
    seeds: tuple[int, ...]
    train_count: int | None
    """Training images that are chosen from all; None takes all."""
    precision: str
    """`float32` or `bfloat16`."""


@dataclass(frozen=True)
class Job:
    """A run of a plan, finished or not."""

    value: Value
    seed: int
    trial: Trial
    settings: dict[str, Any]
    """The same as `Run.settings`."""


def find_key(job: Job | Run) -> str:
    """A digest of value, seed and settings. A job and its finished run have the same."""
    parts = [job.value, job.seed, select_decisive(job.settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def plan_jobs(plan: Plan) -> list[Job]:
    """All runs of a plan, seed by seed, so that half a study already compares all values."""
    trials = {value: plan.study.vary(plan.base, value) for value in plan.values}
    return [
        Job(value, seed, trial, describe_trial(trial, plan)) for seed in plan.seeds for value, trial in trials.items()
    ]


def describe_trial(trial: Trial, plan: Plan) -> dict[str, Any]:
    """All that determines a run except its seed, as it comes back from a line of JSON."""
    more = {
        "pretraining_epochs": trial.pretraining_epochs,
        "train_count": plan.train_count,
        "precision": plan.precision,
        "is_balanced": isinstance(trial.recipe.augmentation, Augmentation),
    }
    settings: dict[str, Any] = json.loads(json.dumps(describe(trial.recipe) | more))
    return select_decisive(settings)


def select_decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine a run. Older runs have more of them, and never balanced the classes."""
    names = (*DECISIVE, "pretraining_epochs", "train_count", "precision")
    later = {name: settings.get(name, default) for name, default in LATER.items()}
    found = {name: settings[name] for name in names} | later | {"is_balanced": settings.get("is_balanced", False)}
    if (found["augmentation"] or {}).get("kind") == "augmentation":
        found["augmentation"] = {**LATER_OF_AUGMENTATION, **found["augmentation"]}
    return found


def is_comparable(run: Run, plan: Plan) -> bool:
    """Whether a run is the one that this plan would train for its value."""
    try:
        return select_decisive(run.settings) == describe_trial(plan.study.vary(plan.base, run.value), plan)
    except ValueError:  # the plan has too few epochs for this value
        return False
