"""A plan and training images -> its runs, one after another, each to a line, a table and a plot.

Enters: a `Plan`, a `Material`, a folder. Leaves: results.jsonl, table.md and plot.png there. Does not know: flags,
where the images came from, test images. A run that a killed process left goes on from its last epoch; one that was left
while it was pretrained starts again. One process at a time works in a folder. TensorFlow comes in with the first run.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.net import spell
from train.recipe import Recipe, describe
from train.studies import Study, Trial, Value, spell_value
from train.study_results import Run, append_run, cut_torn_line, read_runs
from train.study_table import conclude, summarise, write_table

RECORDED_PACKAGES = ("keras", "tensorflow", "numpy")


@dataclass(frozen=True)
class Material:
    """What every run trains on, and holds out of."""

    images: npt.NDArray[np.uint8]
    """[N, H, W, C]"""
    labels: npt.NDArray[np.int64]
    """[N]"""
    class_count: int


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
    """Of the value, the seed and the settings alone: a job and the run that came of it have the same."""
    return hashlib.sha256(json.dumps([job.value, job.seed, job.settings], sort_keys=True).encode()).hexdigest()[:12]


def plan_jobs(plan: Plan) -> list[Job]:
    """Every run of a plan; a seed for all values before the next seed, so that half a study says something already."""
    trials = {value: plan.study.vary(plan.base, value) for value in plan.values}
    return [
        Job(value, seed, trial, describe_trial(trial, plan)) for seed in plan.seeds for value, trial in trials.items()
    ]


def describe_trial(trial: Trial, plan: Plan) -> dict[str, Any]:
    """All that decides a run but its seed, as it comes back from a line of JSON."""
    more = {"pretraining_epochs": trial.pretraining_epochs, "train_count": plan.train_count}
    settings: dict[str, Any] = json.loads(json.dumps(describe(trial.recipe) | more | {"precision": plan.precision}))
    return settings


def pursue(plan: Plan, material: Material, folder: Path) -> None:
    """Train the runs that have no line yet, each to its line; the table and the plot are renewed after each."""
    path = folder / "results.jsonl"
    if cut_torn_line(path):
        print(f"{path}: cut off a last line that was not written to its end")
    done, jobs = {find_key(run) for run in read_runs(path)}, plan_jobs(plan)
    left = [job for job in jobs if find_key(job) not in done]
    print(f"{plan.study.question} {len(jobs)} runs, {len(jobs) - len(left)} of them finished", flush=True)
    started_s = time.monotonic()
    for number, job in enumerate(left, 1):
        name = f"{plan.study.name} {spell_value(job.value)}, seed {job.seed}"
        print(f"run {number} of {len(left)}: {name}", flush=True)
        run = finish_job(job, plan, material, folder)
        report(plan, material, folder)
        minutes = (time.monotonic() - started_s) / number * (len(left) - number) / 60
        print(f"{name}: validation accuracy {run.validation_accuracy:.4f}; about {minutes:.0f} minutes to go")
    print("", *report(plan, material, folder), f"wrote {path}, and beside it table.md and plot.png", sep="\n")


def finish_job(job: Job, plan: Plan, material: Material, folder: Path) -> Run:
    """Train one run to its line; what it would have gone on from is removed once that is on the disk."""
    unfinished = folder / f"unfinished-{find_key(job)}.npz"
    run = train_job(job, plan, material, unfinished)
    append_run(folder / "results.jsonl", run)
    unfinished.unlink()
    pretraining_path(unfinished).unlink(missing_ok=True)
    return run


def train_job(job: Job, plan: Plan, material: Material, unfinished: Path) -> Run:
    """Train one run from its start, or on from `unfinished`."""
    import keras  # brings TensorFlow

    from train import fit, models, precision

    keras.backend.clear_session()
    keras.utils.set_random_seed(job.seed)
    recipe, images, labels = job.trial.recipe, material.images, material.labels
    policy = precision.POLICIES[plan.precision]
    model = models.build(recipe.net, images.shape[1:], material.class_count, policy, recipe.name)
    before = pretrain_job(job, model, material, unfinished) if job.trial.pretraining_epochs else []
    is_begun = unfinished.exists()
    progress = fit.fit(model, images, labels, recipe, seed=job.seed, unfinished=unfinished, resume=is_begun)
    return describe_run(job, plan, model.count_params(), [*before, *progress.history])


def pretrain_job(job: Job, model: Any, material: Material, unfinished: Path) -> list[dict[str, float]]:
    """Pretrain a keras.Model and leave `unfinished` to go on from, unless it is there; a row per epoch."""
    from train import metric

    path, recipe = pretraining_path(unfinished), job.trial.recipe
    if not unfinished.exists():
        epochs, images = job.trial.pretraining_epochs, material.images
        history = metric.pretrain(model, images, material.labels, recipe, epochs=epochs, seed=job.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(history))
        metric.write_start(model, len(images), recipe, seed=job.seed, unfinished=unfinished)
    rows: list[dict[str, float]] = json.loads(path.read_text())
    return rows


def pretraining_path(unfinished: Path) -> Path:
    """Where the rows of a run's pretraining wait for its end."""
    return unfinished.with_suffix(".pretraining.json")


def describe_run(job: Job, plan: Plan, parameters: int, history: Sequence[Mapping[str, float]]) -> Run:
    """What is kept of a run; `history` has a row per epoch, the last one of `fit`."""
    return Run(
        study=plan.study.name,
        dataset=job.trial.recipe.dataset,
        value=job.value,
        seed=job.seed,
        settings=job.settings,
        parameters=parameters,
        epochs=len(history),
        validation_accuracy=history[-1]["val_accuracy"],
        train_accuracy=history[-1]["accuracy"],
        seconds=round(sum(row["seconds"] for row in history), 1),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={package: version(package) for package in RECORDED_PACKAGES},
    )


def report(plan: Plan, material: Material, folder: Path) -> list[str]:
    """Write table.md and plot.png of what is finished, of earlier calls too; the conclusion's sentences."""
    from train.report import DOTS_PER_INCH  # matplotlib, which a usage error does without
    from train.study_plot import draw_study

    runs = {find_key(run): run for run in read_runs(folder / "results.jsonl") if is_comparable(run, plan)}
    rows, facts = summarise(list(runs.values())), describe_plan(plan, material)
    (folder / "table.md").write_text(write_table(plan.study, rows, facts), encoding="utf-8")
    draw_study(plan.study, rows, caption=facts[0]).savefig(folder / "plot.png", dpi=DOTS_PER_INCH)
    return conclude(rows)


def is_comparable(run: Run, plan: Plan) -> bool:
    """Whether a run is what this plan would train for its value: of the same epochs, images, precision and recipe."""
    try:
        return run.settings == describe_trial(plan.study.vary(plan.base, run.value), plan)
    except ValueError:  # a value for which there are too few epochs
        return False


def describe_plan(plan: Plan, material: Material) -> list[str]:
    """Sentences about what all runs have in common, the first one short."""
    held_out, dataset = plan.base.validation_count, plan.base.dataset
    epochs = "" if plan.study.name == "epochs" else f", {plan.base.epochs} epochs"
    count = f"{len(material.images) - held_out:,}" + ("" if plan.train_count is None else " chosen")
    trained = f"{dataset}: {count} training images, {held_out:,} held out{epochs}"
    trials = {value: plan.study.vary(plan.base, value) for value in plan.values}
    shares = [
        f"Of the {plan.base.epochs} epochs of `{spell_value(value)}`, {trial.pretraining_epochs} went to pretraining "
        "with a supervised contrastive loss (Khosla et al. 2020)."
        for value, trial in trials.items()
        if trial.pretraining_epochs
    ]
    base = f"The base is {plan.base.name}: {spell(plan.base.net)}; batches of {plan.base.batch_size}, {plan.precision}."
    same = "Every run saw the same training images, and none was tuned anew for its value."
    return [f"{trained}.", base, same, *shares]
