"""`train.studies.runner` and `python -m train.study`: tiny studies, their interruption and their command line.

Files in MNIST's format replace MNIST: the row of a bright bar is the label, and the test set is empty.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serve.errors import ConfigError
from tests.support import ROOT, interrupt
from tests.train.data.test_datasets import draw_bars, write_mnist
from train.commands.study import choose_images
from train.data.datasets import Dataset, Part, split
from train.flags import PRECISIONS
from train.nets import build
from train.nets.precision import choose_precision
from train.recipes.net import Dense, Drop, Flatten
from train.recipes.recipe import Recipe
from train.recipes.shipped import NOTEBOOK_AUGMENTATION
from train.studies.catalogue import BASES, STUDIES
from train.studies.plan import DECISIVE, LATER, Plan, find_key, is_comparable, plan_jobs
from train.studies.results import read_runs
from train.studies.runner import Material, measure_held_out, run_plan, train_job

BASE = dataclasses.replace(
    BASES["mnist"], net=(Flatten(), Drop(0.1), Dense(8)), epochs=2, batch_size=50, validation_count=60
)
PLAN = Plan(STUDIES["dropout"], BASE, (0.0, 0.5), (0, 1), None, "float32")
FILES = ["plot.png", "results.jsonl", "table.md"]
# The program of train/study.py, with the checksums of the files that replace the published ones.
PROGRAM = """
import dataclasses, json, sys
from train.data import sources
from train.commands import study
sources.SOURCES["mnist"] = dataclasses.replace(sources.SOURCES["mnist"], md5s=json.loads(sys.argv.pop(1)))
sys.exit(study.main())
"""
COMMITTED = ROOT / "docs/training/studies"
DOCUMENTED = (ROOT / "docs/training/notebooks.md").read_text().splitlines()
COUNT = 5100  # the recipe holds out 5,000


def make_bars(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28, 1] and labels int64 [N]."""
    labels = np.random.default_rng(0).integers(0, 10, count)
    return draw_bars(labels), labels


@pytest.fixture(scope="module")
def material() -> Material:
    return Material(*split(Part.whole(*make_bars(260)), BASE.validation_count), class_count=10)


def read_rows(table: str) -> list[str]:
    """The table's rows whose value starts with 0."""
    return [line for line in table.splitlines() if line.startswith("| 0")]


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def finished(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study, which tests only read."""
    folder = tmp_path_factory.mktemp("finished") / "new"
    run_plan(PLAN, material, folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study, which tests may change."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


@pytest.mark.slow
def test_a_study_leaves_a_line_for_each_run_a_table_and_a_plot(finished: Path) -> None:
    assert list_files(finished) == FILES
    runs = read_runs(finished / "results.jsonl")
    assert [(run.seed, run.value) for run in runs] == [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5)]
    assert {(run.epochs, run.parameters, run.settings["epochs"]) for run in runs} == {(2, 784 * 8 + 8 + 90, 2)}
    assert all(0 < run.validation_accuracy <= 1 and run.seconds > 0 for run in runs)
    table = (finished / "table.md").read_text()
    assert "- mnist: 200 training images, 60 held out, 2 epochs.\n" in table
    assert [line.split(" | ")[:3] for line in read_rows(table)] == [["| 0", "6,370", "2"], ["| 0.5", "6,370", "2"]]


@pytest.mark.slow
def test_finished_runs_are_skipped_and_a_new_value_joins_the_table(
    material: Material, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "results.jsonl"
    before = path.read_text()
    run_plan(dataclasses.replace(PLAN, values=(0.5, 0.3), seeds=(1,)), material, folder)
    assert "2 runs, 1 of them finished" in capsys.readouterr().out
    assert path.read_text().startswith(before)
    assert [(run.seed, run.value) for run in read_runs(path)[4:]] == [(1, 0.3)]
    rows = read_rows((folder / "table.md").read_text())
    assert [line.split(" | ")[0] for line in rows] == ["| 0", "| 0.3", "| 0.5"]


@pytest.mark.slow
def test_runs_of_other_settings_are_trained_again_and_kept_apart(material: Material, folder: Path) -> None:
    shorter = dataclasses.replace(BASE, epochs=1)
    run_plan(dataclasses.replace(PLAN, base=shorter, values=(0.5,), seeds=(0,)), material, folder)
    assert [run.epochs for run in read_runs(folder / "results.jsonl")] == [2, 2, 2, 2, 1]
    (row,) = read_rows((folder / "table.md").read_text())
    assert row.startswith("| 0.5 | 6,370 | 1 |")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_run_with_a_damaged_checkpoint_starts_over(
    material: Material, folder: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    """After a power cut, for example, the user needs no flag and deletes no file."""
    plan = dataclasses.replace(PLAN, values=(0.3,), seeds=(0,))
    (job,) = plan_jobs(plan)
    checkpoint = folder / f"unfinished-{find_key(job)}.npz"
    train_job(job, plan, material, checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[: int(share * checkpoint.stat().st_size)])
    run_plan(plan, material, folder)
    assert "found a damaged or a foreign one; starting over" in capsys.readouterr().out
    assert list_files(folder) == FILES


def test_every_setting_of_a_recipe_is_known_to_be_decisive_or_not() -> None:
    """A new setting must be listed, so that finished runs are neither foreign nor taken for others."""
    others = {"name", "prepare", "target_accuracy", "measured_accuracy", "mirrors", "halves_weights"}
    others |= {"keeps_last", "patience"}  # a study's run keeps the last of all epochs
    others |= {"second_view_share", "gives_familiarity"}  # of the exported file
    assert {field.name for field in dataclasses.fields(Recipe)} == set(DECISIVE) | set(LATER) | others


@pytest.mark.parametrize("folder", sorted(COMMITTED.iterdir()), ids=lambda folder: folder.name)
def test_the_committed_runs_are_those_of_the_documented_command(folder: Path) -> None:
    """Otherwise the command would train them again and overwrite the table."""
    study, _, dataset = folder.name.partition("-")
    base = dataclasses.replace(BASES[dataset], batch_size=100, epochs=6)
    runs = read_runs(folder / "results.jsonl")
    (row,) = (line for line in DOCUMENTED if f"studies/{folder.name}/table.md" in line)
    (precision,) = (each for each in PRECISIONS if f"| {each} |" in row)
    plan = Plan(STUDIES[study], base, tuple({run.value: None for run in runs}), (0, 1, 2), 5000, precision)
    assert {find_key(run) for run in runs if is_comparable(run, plan)} >= {find_key(job) for job in plan_jobs(plan)}


def test_the_classes_of_augmented_runs_are_balanced(material: Material) -> None:
    """Augmentation, and nothing else, leads to new biases."""
    moved = dataclasses.replace(BASE, augmentation=NOTEBOOK_AUGMENTATION, keeps_last=True)
    model = build.build(moved.net, (28, 28, 1), 10, "float32", "bars")
    before = model.get_layer("logits").get_weights()
    measure_held_out(model, dataclasses.replace(moved, augmentation=None), material)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[1], before[1])
    accuracy = measure_held_out(model, moved, material)
    assert not np.array_equal(model.get_layer("logits").get_weights()[1], before[1])
    answers = build.predict(model, material.validation.images).argmax(axis=1)
    assert accuracy == np.mean(answers == material.validation.labels)


@pytest.mark.slow
def test_a_run_with_a_torn_line_is_repeated_to_the_same_figures(
    material: Material, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So a run does not depend on runs before it in the process: this was the last of four."""
    path = folder / "results.jsonl"
    wanted = read_runs(path)
    path.write_bytes(path.read_bytes()[:-30])
    run_plan(PLAN, material, folder)
    assert "cut off a last line" in capsys.readouterr().out
    same = {"date": "", "seconds": 0}
    found = [dataclasses.replace(run, **same) for run in read_runs(path)]
    assert found == [dataclasses.replace(run, **same) for run in wanted]


def test_a_pretrained_run_is_resumed_and_counts_all_its_epochs(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fit` leaves its checkpoint after the last epoch, so no epoch is left to train."""
    plan = dataclasses.replace(PLAN, study=STUDIES["metric"], values=("metric",), seeds=(0,))
    (job,) = plan_jobs(plan)
    first = train_job(job, plan, material, tmp_path / f"unfinished-{find_key(job)}.npz")
    assert (first.epochs, job.trial.pretraining_epochs) == (2, 1)
    assert "pretraining epoch 1 of 1\n" in capsys.readouterr().out
    run_plan(plan, material, tmp_path)
    assert "epoch 1 of 1\n" not in capsys.readouterr().out
    assert list_files(tmp_path) == FILES
    (second,) = read_runs(tmp_path / "results.jsonl")
    assert dataclasses.replace(second, date=first.date) == first
    assert "Of the 2 epochs of `metric`, 1 went to pretraining" in (tmp_path / "table.md").read_text()


def test_a_subset_of_the_training_images_is_always_the_same() -> None:
    whole = Part.whole(np.zeros((300, 1, 1, 1), np.uint8), np.arange(300))
    train, validation = split(whole, 60)
    dataset = Dataset("numbers", train, validation, whole, {})
    chosen = choose_images(dataset, 40)
    assert len(set(chosen.labels)) == 40
    assert set(chosen.labels) <= set(train.labels)
    np.testing.assert_array_equal(choose_images(dataset, 40).labels, chosen.labels)
    assert choose_images(dataset, None) is train
    with pytest.raises(ConfigError, match="wanted at most 240, as 60 are held out"):
        choose_images(dataset, 241)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The start of a command line that runs studies on the files that replace MNIST."""
    data = tmp_path_factory.mktemp("data")
    md5s = write_mnist(data, train=make_bars(COUNT), test=make_bars(0))
    return [sys.executable, "-c", PROGRAM, json.dumps(md5s), "--dataset", "mnist", "--data", str(data)]


@pytest.mark.slow
def test_an_interrupted_study_continues_and_needs_no_test_set(command: list[str], tmp_path: Path) -> None:
    unusual = "float32" if choose_precision(None) == "bfloat16" else "bfloat16"
    flags = ["width", "--values", "0.05", "--seeds", "4", "--epochs", "4", "--batch-size", "50", "--out", str(tmp_path)]
    flags += ["--precision", unusual]
    returncode, errors = interrupt([*command, *flags], "epoch 3 of 4")
    assert returncode == 1, errors
    assert "interrupted: finished runs are kept; the same command continues" in errors
    assert "Traceback" not in errors
    folder = tmp_path / "width-mnist"
    (name,) = list_files(folder)
    assert name.startswith("unfinished-")

    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "epoch 2 of 4" not in done.stdout
    assert list_files(folder) == FILES
    (run,) = read_runs(folder / "results.jsonl")
    assert (run.epochs, run.settings["batch_size"], run.settings["precision"]) == (4, 50, unusual)
    assert "Undecided: " in done.stdout
    assert "mnist: 100 training images, 5,000 held out, 4 epochs" in (folder / "table.md").read_text()


def test_more_training_images_than_there_are_end_with_2(command: list[str], tmp_path: Path) -> None:
    flags = ["width", "--train-count", "101", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    assert (done.returncode, "wanted at most 100, as 5000 are held out" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
