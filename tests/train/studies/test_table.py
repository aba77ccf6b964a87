"""`train.studies.results`, `table` and `plot`: finished runs, the conclusion, and how both are shown."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.studies.catalogue import STUDIES, Value
from train.studies.plot import draw_study
from train.studies.results import BadResults, Run, append_run, cut_torn_line, read_runs
from train.studies.table import Row, conclude, summarise, write_table

RUN = Run(
    study="width",
    dataset="mnist",
    value=0.5,
    seed=0,
    settings={"epochs": 2, "net": "flatten"},
    parameters=1234,
    epochs=2,
    validation_accuracy=0.5,
    train_accuracy=0.6,
    seconds=10.0,
    date="2026-01-01T00:00:00+00:00",
    versions={"keras": "3"},
)


def make_rows(**accuracies: list[float]) -> list[Row]:
    """A row for each word."""
    return [Row(value, 1000, tuple(found), 0.7, 10.0) for value, found in accuracies.items()]


def make_runs(value: Value, *accuracies: float) -> list[Run]:
    """A run for each accuracy, with seeds from 0."""
    return [
        dataclasses.replace(RUN, value=value, seed=seed, validation_accuracy=accuracy)
        for seed, accuracy in enumerate(accuracies)
    ]


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    assert read_runs(path) == []
    runs = [*make_runs(0.5, 0.1, 0.2), *make_runs("on", 0.3)]
    for run in runs:
        append_run(path, run)
    assert read_runs(path) == runs
    assert len(path.read_text().splitlines()) == 3
    assert not cut_torn_line(path)


@pytest.mark.parametrize("left", [1, 10, -1])
def test_a_torn_last_line_is_no_run_and_is_cut_off(tmp_path: Path, left: int) -> None:
    """A line that lacks only its end counts as torn: the run is repeated."""
    path = tmp_path / "results.jsonl"
    append_run(path, RUN)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:left])
    assert read_runs(path) == [RUN]
    assert cut_torn_line(path)
    assert path.read_bytes() == whole
    append_run(path, RUN)
    assert read_runs(path) == [RUN, RUN]
    assert [file.name for file in tmp_path.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("line", ["nonsense", "{}", "[]", json.dumps(dataclasses.asdict(RUN))[:-9]])
def test_a_bad_line_that_ends_is_named_and_not_removed(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(f"{json.dumps(dataclasses.asdict(RUN))}\n{line}\n")
    with pytest.raises(BadResults, match=r"results\.jsonl, line 2: wanted a run as JSON"):
        read_runs(path)
    assert not cut_torn_line(path)


def test_a_row_has_all_seeds_of_a_value_and_numbers_are_sorted() -> None:
    found = summarise([*make_runs(10.0, 0.7, 0.8), *make_runs(9.0, 0.6)])
    assert [(row.value, row.accuracies) for row in found] == [(9.0, (0.6,)), (10.0, (0.7, 0.8))]
    assert (found[1].mean, found[1].lowest, found[1].highest) == pytest.approx((0.75, 0.7, 0.8))
    assert [row.value for row in summarise([*make_runs("on", 0.1), *make_runs("off", 0.2)])] == ["on", "off"]


def test_ranges_apart_with_3_seeds_each_are_decided() -> None:
    sentence, against = conclude(make_rows(off=[0.70, 0.71, 0.72], on=[0.73, 0.74, 0.75]))
    assert sentence.startswith("Decided: on has the highest mean, 0.7400 (0.7300 to 0.7500)")
    assert against == "against off (0.7000 to 0.7200): decided"


@pytest.mark.parametrize("highest", [0.73, 0.74, 0.80])
def test_ranges_that_overlap_or_touch_are_undecided(highest: float) -> None:
    sentence, against = conclude(make_rows(off=[0.50, 0.51, highest], on=[0.73, 0.74, 0.75]))
    assert sentence.startswith("Undecided: on has the highest mean")
    assert against == f"against off (0.5000 to {highest:.4f}): undecided, the ranges overlap"


@pytest.mark.parametrize(("off", "on"), [([0.1, 0.1], [0.9, 0.9, 0.9]), ([0.1] * 3, [0.9, 0.9]), ([0.1], [0.9])])
def test_fewer_than_3_seeds_are_undecided(off: list[float], on: list[float]) -> None:
    sentence, against = conclude(make_rows(off=off, on=on))
    assert sentence.startswith("Undecided: ")
    assert "undecided, wanted at least 3 seeds" in against


def test_an_undecided_comparison_makes_the_study_undecided() -> None:
    sentence, *against = conclude(make_rows(a=[0.1] * 3, b=[0.5, 0.6, 0.7], c=[0.6, 0.7, 0.8]))
    assert sentence.startswith("Undecided: c has the highest mean")
    assert [line.partition(": ")[2] for line in against] == ["decided", "undecided, the ranges overlap"]


def test_equal_runs_and_a_single_value_are_undecided() -> None:
    assert conclude(make_rows(a=[0.5] * 3, b=[0.5] * 3))[0].startswith("Undecided: ")
    assert conclude(make_rows(a=[0.5] * 3)) == ["Undecided: there are not two values to compare yet."]


def test_the_table_has_rows_conclusion_and_explanations() -> None:
    runs = [*make_runs(0.5, 0.70, 0.71, 0.72), *make_runs(2.0, 0.75, 0.76)]
    text = write_table(STUDIES["width"], summarise(runs), ["40 training images."])
    assert "| 0.5 | 1,234 | 3 | 0.7100 | 0.7000 to 0.7200 | 0.0100 | 0.6000 | 10 |" in text
    assert "| 2 | 1,234 | 2 | 0.7550 | 0.7500 to 0.7600 | - | 0.6000 | 10 |" in text
    assert text.startswith(f"# {STUDIES['width'].question}\n\n**Undecided: 2 has the highest mean")
    assert "- 40 training images.\n" in text
    assert "validation accuracies" in text
    assert "the test set was not read" in text


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_plot_shows_the_question_and_every_seed(tmp_path: Path, count: int) -> None:
    rows = [Row(float(value), 1000, (0.7, 0.71 + value / 100, 0.72), 0.7, 10.0) for value in range(count)]
    figure = draw_study(STUDIES["dropout"], rows, "a caption")
    (axes,) = figure.axes
    points = [line.get_ydata() for line in axes.lines if line.get_marker() == "o"]
    assert [tuple(found) for found in points] == [row.accuracies for row in rows]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [f"{value}" for value in range(count)]
    assert axes.get_title(loc="left") == STUDIES["dropout"].question
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("dropout rate", "validation accuracy")
    figure.savefig(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
