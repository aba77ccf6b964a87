"""`train.evaluation.figures`: the files can be read and contain what the arrays do."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import ROOT
from train.evaluation.figures import (
    choose_mistakes,
    draw_confusions,
    draw_curves,
    draw_mistakes,
    draw_reliability,
    write_classes,
    write_report,
)
from train.evaluation.metrics import count_confusions

PNGS = ["curves.png", "confusion.png", "reliability.png", "mistakes.png"]
HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.9, "val_loss": 2 / epoch, "val_accuracy": 0.8, "seconds": 1.0}
    for epoch in range(1, 4)
]


def make_run(class_count: int = 3, channels: int = 3, count: int = 60) -> dict:
    """Arguments of `write_report`; about half of the answers are wrong."""
    random = np.random.default_rng(0)
    truth = np.arange(count) % class_count
    scores = random.normal(0, 2, (count, class_count)) + 2 * np.eye(class_count)[truth]
    powers = np.exp(scores)
    return {
        "history": HISTORY,
        "labels": [f"класс {index}" for index in range(class_count)],
        "images": random.integers(0, 256, (count, 8, 8, channels), dtype=np.uint8),
        "truth": truth,
        "probabilities": (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32),
    }


def make_answers(*answers: int, class_count: int = 3) -> np.ndarray:
    """Probabilities that put 0.85 at each answer."""
    return np.where(np.eye(class_count)[list(answers)] > 0, 0.85, 0.15 / (class_count - 1)).astype(np.float32)


def read_classes(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_shows_something(path: Path) -> None:
    with Image.open(path) as picture:
        assert min(picture.size) > 150
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


@pytest.mark.parametrize(("class_count", "channels"), [(2, 1), (100, 3)])
def test_every_file_is_written_and_no_picture_is_blank(tmp_path: Path, class_count: int, channels: int) -> None:
    """A letter without a glyph, or a division by 0, would be a warning and so an error."""
    run = make_run(class_count, channels, 100)
    paths = write_report(tmp_path / "new" / "folder", **run)
    assert [path.name for path in paths] == [*PNGS, "classes.csv"]
    for path in paths[:-1]:
        assert_shows_something(path)
    assert [row["label"] for row in read_classes(paths[-1])] == run["labels"]


def test_class_figures_are_those_found_by_hand(tmp_path: Path) -> None:
    """Two of three images of class 0 are found, two of three answers 1 are right, and 2 is never answered."""
    matrix = count_confusions(make_answers(0, 0, 1, 1, 1, 0), np.array([0, 0, 0, 1, 1, 2]))
    write_classes(matrix, ["кот", "dog", "a, b"], tmp_path / "classes.csv")
    assert [list(row.values()) for row in read_classes(tmp_path / "classes.csv")] == [
        ["кот", "3", "0.6667", "0.6667", "0.6667"],
        ["dog", "2", "0.6667", "1.0000", "0.8000"],
        ["a, b", "1", "0.0000", "0.0000", "0.0000"],
    ]


def test_a_class_without_images_has_a_recall_of_0(tmp_path: Path) -> None:
    write_classes(np.array([[1, 1], [0, 0]]), ["a", "b"], tmp_path / "classes.csv")
    assert list(read_classes(tmp_path / "classes.csv")[1].values()) == ["b", "0", "0.0000", "0.0000", "0.0000"]


def test_mistakes_are_wrong_answers_by_falling_confidence() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.7, 0.3]])
    assert choose_mistakes(np.array([1, 0, 0, 1, 1]), probabilities).tolist() == [2, 3, 4, 0]


def test_a_mistake_is_shown_with_labels_probability_and_image() -> None:
    run = make_run(count=2)
    figure = draw_mistakes(run["images"], np.array([0, 1]), make_answers(0, 2), run["labels"])
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "true: класс 1\nfound: класс 2\n85.0%"
    np.testing.assert_array_equal(axes.images[0].get_array(), run["images"][1])


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (6, 6), (40, 25)])
def test_at_most_25_mistakes_are_shown(count: int, shown: int) -> None:
    run = make_run(count=count)
    truth, probabilities = np.zeros(count, int), make_answers(*[1] * count)
    assert len(draw_mistakes(run["images"], truth, probabilities, run["labels"]).axes) == shown


def test_a_sentence_says_that_there_are_no_mistakes(tmp_path: Path) -> None:
    run = make_run(count=3)
    figure = draw_mistakes(run["images"], np.array([0, 1, 2]), make_answers(0, 1, 2), run["labels"])
    assert [text.get_text() for text in figure.texts] == ["No mistakes: all 3 images got their true label."]
    figure.savefig(tmp_path / "mistakes.png")
    assert_shows_something(tmp_path / "mistakes.png")


def test_cells_hold_counts_with_true_classes_down_and_found_classes_across() -> None:
    axes, _ = draw_confusions(np.array([[5, 2], [0, 7]]), ["a", "b"]).axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "5", (1, 0): "2", (1, 1): "7"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("found", "true")


@pytest.mark.parametrize(("class_count", "with_counts"), [(20, True), (21, False)])
def test_counts_are_left_out_past_20_classes(class_count: int, with_counts: bool) -> None:
    axes, _ = draw_confusions(np.eye(class_count, dtype=np.int64), [f"{index}" for index in range(class_count)]).axes
    assert bool(axes.texts) == with_counts


def test_a_reliability_diagram_has_the_error_and_no_empty_bins() -> None:
    """Four answers at 0.85, three of them right."""
    above, below = draw_reliability(make_answers(0, 1, 2, 0), np.array([0, 1, 2, 1])).axes
    assert above.get_title() == "calibration error 0.1000"
    _, line = above.lines
    np.testing.assert_allclose(line.get_xydata(), [[0.85, 0.75]], rtol=1e-6)
    assert [bar.get_height() for bar in below.patches] == [0] * 12 + [4] + [0] * 2


def test_curves_are_of_training_and_validation_by_epoch() -> None:
    loss, accuracy = draw_curves(HISTORY).axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[1, 1], [2, 1 / 2], [3, 1 / 3]])
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [2, 1, 2 / 3])
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]


def test_labels_are_shown_literally_and_cut_if_long(tmp_path: Path) -> None:
    """Matplotlib would read text between dollars as a formula, and fail at a bad one."""
    figure = draw_confusions(np.eye(3, dtype=np.int64), ["$x_{$y", "$a$", "ё" * 60])
    figure.savefig(tmp_path / "confusion.png")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["$x_{$y", "$a$", "ё" * 19 + "…"]


@pytest.mark.parametrize("change", [{"labels": ["a", "b"]}, {"images": np.zeros((1, 8, 8, 3), np.uint8)}])
def test_another_number_of_labels_or_images_is_refused(tmp_path: Path, change: dict) -> None:
    with pytest.raises(ValueError, match="wanted 3 labels and 60 images"):
        write_report(tmp_path / "run", **make_run() | change)
    assert not (tmp_path / "run").exists()


def test_pyplot_and_its_global_state_are_never_loaded() -> None:
    script = "import train.evaluation.figures, sys; print('matplotlib.pyplot' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
