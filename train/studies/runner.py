"""A plan and labelled images -> its runs, one after another or elsewhere, and a table and a plot of them.

Enters: a `Plan`, a `Material`, a folder. Leaves: results.jsonl, table.md and plot.png there. Does not know: flags,
where the images came from, test images.
An interrupted run continues from its last epoch; one that was interrupted in its pretraining starts again. TensorFlow
is imported with the first run.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from train.data.datasets import Part
from train.evaluation.metrics import measure_accuracy
from train.recipes.net import spell
from train.recipes.recipe import Augmentation, Recipe
from train.run_folder import claim, name_errors
from train.studies.catalogue import spell_value
from train.studies.plan import Job, Plan, find_key, is_comparable, plan_jobs
from train.studies.results import Run, append_run, cut_torn_line, read_runs
from train.studies.table import conclude, summarise, write_table

RECORDED_PACKAGES = ("keras", "tensorflow", "numpy")
RESULTS = "results.jsonl"

Elsewhere: TypeAlias = Callable[[Sequence[Job]], Iterator[tuple[Job, Run]]]
"""Trains jobs in other processes, and gives each run when it ends."""


@dataclass(frozen=True)
class Material:
    """The images that every run trains on, and the held-out images that it is measured on."""

    train: Part
    validation: Part
    class_count: int


def run_plan(plan: Plan, material: Material, folder: Path, elsewhere: Elsewhere | None = None) -> None:
    """Train the runs without a line in results.jsonl. Each adds its line and renews table and plot.

    `elsewhere` trains them in other processes; without it they are trained here, one after another. Raises FolderTaken
    if another process writes to the folder, and BadResults.
    """
    with claim(folder):
        _run_locked(plan, material, folder, elsewhere)


def _run_locked(plan: Plan, material: Material, folder: Path, elsewhere: Elsewhere | None) -> None:
    path = folder / RESULTS
    if cut_torn_line(path):
        print(f"{path}: cut off a last line that was not written completely")
    done, jobs = {find_key(run) for run in read_runs(path)}, plan_jobs(plan)
    left = [job for job in jobs if find_key(job) not in done]
    print(f"{plan.study.question} {len(jobs)} runs, {len(jobs) - len(left)} of them finished", flush=True)
    started_s = time.monotonic()
    finished = _append_all(elsewhere(left), folder) if elsewhere else _finish_all(left, plan, material, folder)
    for number, (job, run) in enumerate(finished, 1):
        report(plan, material, folder)
        minutes = (time.monotonic() - started_s) / number * (len(left) - number) / 60
        accuracy = f"validation accuracy {run.validation_accuracy:.4f}"
        print(f"{_name_job(job, plan)}: {accuracy}; about {minutes:.0f} minutes to go", flush=True)
    print("", *report(plan, material, folder), f"wrote {path}, and beside it table.md and plot.png", sep="\n")


def _finish_all(jobs: Sequence[Job], plan: Plan, material: Material, folder: Path) -> Iterator[tuple[Job, Run]]:
    """Train one job after another."""
    for number, job in enumerate(jobs, 1):
        print(f"run {number} of {len(jobs)}: {_name_job(job, plan)}", flush=True)
        yield job, finish_job(job, plan, material, folder)


def _append_all(finished: Iterator[tuple[Job, Run]], folder: Path) -> Iterator[tuple[Job, Run]]:
    """Add the line of each run that was trained elsewhere."""
    for job, run in finished:
        with name_errors(folder / RESULTS):
            append_run(folder / RESULTS, run)
        yield job, run


def _name_job(job: Job, plan: Plan) -> str:
    return f"{plan.study.name} {spell_value(job.value)}, seed {job.seed}"


def finish_job(job: Job, plan: Plan, material: Material, folder: Path) -> Run:
    """Train a run, add its line, and then remove its checkpoint. A damaged checkpoint is ignored."""
    from train.fitting.checkpoint import CannotResume  # not above: it imports Keras

    checkpoint = folder / f"unfinished-{find_key(job)}.npz"
    try:
        run = train_job(job, plan, material, checkpoint)
    except CannotResume:
        print(f"{checkpoint}: wanted the checkpoint of this run, found a damaged or a foreign one; starting over")
        remove_checkpoint(checkpoint)
        run = train_job(job, plan, material, checkpoint)
    with name_errors(folder / RESULTS):
        append_run(folder / RESULTS, run)
    remove_checkpoint(checkpoint)
    return run


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove what a run would have continued from."""
    checkpoint.unlink()
    pretraining_path(checkpoint).unlink(missing_ok=True)


def train_job(job: Job, plan: Plan, material: Material, checkpoint: Path) -> Run:
    """Train a run from its start, or from `checkpoint` if that exists."""
    import keras  # not above: it imports TensorFlow

    from train.fitting import fit
    from train.nets import build, precision

    keras.backend.clear_session()
    keras.utils.set_random_seed(job.seed)
    recipe, train = job.trial.recipe, material.train
    policy = precision.POLICIES[plan.precision]
    model = build.build(recipe.net, train.images.shape[1:], material.class_count, policy, recipe.name)
    before = pretrain_job(job, model, material, checkpoint) if job.trial.pretraining_epochs else []
    is_begun = checkpoint.exists()
    progress = fit.fit(model, train, material.validation, recipe, seed=job.seed, checkpoint=checkpoint, resume=is_begun)
    model.set_weights(progress.best_weights)
    accuracy = measure_held_out(model, recipe, material)
    return describe_run(job, plan, model.count_params(), [*before, *progress.history], accuracy)


def measure_held_out(model: Any, recipe: Recipe, material: Material) -> float:
    """The accuracy of a keras.Model on the held-out images, after its classes were balanced as `fit.finish` does.

    Unlike there, the held-out images do not decide whether the balance is kept.
    """
    from train.fitting.logit_biases import balance_classes  # not above: it imports Keras
    from train.nets.build import predict

    if isinstance(recipe.augmentation, Augmentation):
        balance_classes(model, material.train.images, material.train.labels)
    return measure_accuracy(predict(model, material.validation.images), material.validation.labels)


def pretrain_job(job: Job, model: Any, material: Material, checkpoint: Path) -> list[dict[str, float]]:
    """Pretrain a keras.Model and write its checkpoint, unless that exists. Returns a row for each epoch."""
    from train.fitting import contrastive

    path, recipe = pretraining_path(checkpoint), job.trial.recipe
    if not checkpoint.exists():
        epochs = job.trial.pretraining_epochs
        history = contrastive.pretrain(model, material.train, recipe, epochs=epochs, seed=job.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with name_errors(path):
            path.write_text(json.dumps(history))
        contrastive.write_start(model, len(material.train), recipe, seed=job.seed, checkpoint=checkpoint)
    rows: list[dict[str, float]] = json.loads(path.read_text())
    return rows


def pretraining_path(checkpoint: Path) -> Path:
    """The file that keeps the rows of a run's pretraining until its end."""
    return checkpoint.with_suffix(".pretraining.json")


def describe_run(
    job: Job, plan: Plan, parameters: int, history: Sequence[Mapping[str, float]], validation_accuracy: float
) -> Run:
    """The line of a run. `history` has a row for each epoch, with pretraining first."""
    return Run(
        study=plan.study.name,
        dataset=job.trial.recipe.dataset,
        value=job.value,
        seed=job.seed,
        settings=job.settings,
        parameters=parameters,
        epochs=len(history),
        validation_accuracy=validation_accuracy,
        train_accuracy=history[-1]["accuracy"],
        seconds=round(sum(row["seconds"] for row in history), 1),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={package: version(package) for package in RECORDED_PACKAGES},
    )


def report(plan: Plan, material: Material, folder: Path) -> list[str]:
    """Write table.md and plot.png of all finished runs. Returns the sentences of the conclusion."""
    from train.evaluation.figures import DOTS_PER_INCH  # not above: it imports matplotlib
    from train.studies.plot import draw_study

    runs = {find_key(run): run for run in read_runs(folder / RESULTS) if is_comparable(run, plan)}
    rows, facts = summarise(list(runs.values())), describe_plan(plan, material)
    with name_errors(folder):
        (folder / "table.md").write_text(write_table(plan.study, rows, facts), encoding="utf-8")
        draw_study(plan.study, rows, caption=facts[0]).savefig(folder / "plot.png", dpi=DOTS_PER_INCH)
    return conclude(rows)


def describe_plan(plan: Plan, material: Material) -> list[str]:
    """Sentences about what all runs have in common. The first one is short, as it is the plot's caption."""
    held_out, dataset = len(material.validation), plan.base.dataset
    epochs = "" if plan.study.name == "epochs" else f", {plan.base.epochs} epochs"
    count = f"{len(material.train):,}" + ("" if plan.train_count is None else " chosen")
    trained = f"{dataset}: {count} training images, {held_out:,} held out{epochs}"
    trials = {value: plan.study.vary(plan.base, value) for value in plan.values}
    shares = [
        f"Of the {plan.base.epochs} epochs of `{spell_value(value)}`, {trial.pretraining_epochs} went to pretraining "
        "with a supervised contrastive loss (Khosla et al. 2020)."
        for value, trial in trials.items()
        if trial.pretraining_epochs
    ]
    base = f"The base is {plan.base.name}: {spell(plan.base.net)}."
    base += f" It has batches of {plan.base.batch_size}, {plan.precision}."
    same = "Every run saw the same training images, and no setting was tuned for its value."
    return [f"{trained}.", base, same, *shares]
