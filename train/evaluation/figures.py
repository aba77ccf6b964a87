"""The results of a run -> pictures and a table in its folder.

Enters: the history of the epochs, and the images of a test set with true labels and probabilities. Leaves: curves.png,
confusion.png, reliability.png, mistakes.png and classes.csv. Does not know: models, Keras, where the images came from.

Colour-blind readers can tell the colours apart: they are Okabe and Ito's, and a scale from light to dark.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from train.evaluation.calibration import BIN_COUNT, bin_confidences, measure_calibration_error
from train.evaluation.metrics import Floats, Integers, count_confusions

Images = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.int64]
History = Sequence[Mapping[str, float]]

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#767676"
DOTS_PER_INCH = 120
MOST_CLASSES_WITH_COUNTS = 20
MOST_CLASSES_WITH_NAMES = 200
MISTAKES_ACROSS = 5
LONGEST_LABEL = 20


def write_report(
    folder: Path, *, history: History, labels: Sequence[str], images: Images, truth: Integers, probabilities: Floats
) -> list[Path]:
    """Write the files for images uint8 [N, H, W, C], truth int [N], probabilities float [N, K]. Raises ValueError.

    Without a history there are no curves.
    """
    matrix = count_confusions(probabilities, truth)
    if (len(labels), len(images)) != (len(matrix), len(truth)):
        wanted = f"{len(matrix)} labels and {len(truth)} images"
        raise ValueError(f"wanted {wanted}, found {len(labels)} and {len(images)}")
    figures = {
        **({"curves.png": draw_curves(history)} if history else {}),
        "confusion.png": draw_confusions(matrix, labels),
        "reliability.png": draw_reliability(probabilities, truth),
        "mistakes.png": draw_mistakes(images, truth, probabilities, labels),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=DOTS_PER_INCH)  # without pyplot, Agg draws it and needs no screen
    write_classes(matrix, labels, folder / "classes.csv")
    return [folder / name for name in (*figures, "classes.csv")]


def draw_curves(history: History) -> Figure:
    """Loss and accuracy of training and validation by epoch."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for place, name in enumerate(("loss", "accuracy"), 1):
        axes = figure.add_subplot(1, 2, place)
        _draw_lines(axes, history, name)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
        _lighten(axes)
    return figure


def _draw_lines(axes: Axes, history: History, name: str) -> None:
    """Draw dots too, as a history may have one epoch, and a dashed line, as a print may have no colours."""
    epochs = [row["epoch"] for row in history]
    for key, label, colour, style in ((name, "training", BLUE, "-o"), (f"val_{name}", "validation", VERMILION, "--o")):
        axes.plot(epochs, [row[key] for row in history], style, markersize=3, color=colour, label=label)


def draw_confusions(matrix: Matrix, labels: Sequence[str]) -> Figure:
    """Counts int64 [K, K] of true classes (rows) and answers (columns), coloured by their share of the row."""
    count = len(labels)
    side = float(np.clip(2.5 + 0.5 * count, 4.5, 13))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    shares = _divide(matrix, matrix.sum(axis=1, keepdims=True))
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _name_ticks(axes, labels if count <= MOST_CLASSES_WITH_NAMES else ())
    if count <= MOST_CLASSES_WITH_COUNTS:
        _write_counts(axes, matrix, shares)
    figure.colorbar(picture, label="share of the true class", shrink=0.8).outline.set_visible(False)
    return figure


def _name_ticks(axes: Axes, labels: Sequence[str]) -> None:
    size = 9 if len(labels) <= MOST_CLASSES_WITH_COUNTS else max(5, 9 - len(labels) // 25)
    names = [_shorten(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    axes.set(xlabel="found", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _write_counts(axes: Axes, matrix: Matrix, shares: npt.NDArray[np.float64]) -> None:
    """Write each count into its cell. A cell without images stays empty."""
    for row, column in np.argwhere(matrix):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=colour, fontsize=8)


def draw_reliability(probabilities: Floats, truth: Integers) -> Figure:
    """Accuracy by confidence of probabilities float [N, K]. On the diagonal they are equal."""
    bins = bin_confidences(probabilities, truth)
    figure = Figure(figsize=(5.5, 7), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(3, 1))
    above = figure.add_subplot(grid[0])
    above.plot((0, 1), (0, 1), "--", color=GREY, label="perfectly calibrated")
    filled = bins.counts > 0
    above.plot(bins.confidence[filled], bins.accuracy[filled], "-o", color=BLUE, markersize=5, label="this model")
    above.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    above.set_title(f"calibration error {measure_calibration_error(probabilities, truth):.4f}", fontsize=11)
    above.legend(frameon=False, loc="upper left")
    below = figure.add_subplot(grid[1], sharex=above)
    _draw_counts(below, bins.counts)
    above.tick_params(bottom=False, labelbottom=False)
    _lighten(above)
    return figure


def _draw_counts(axes: Axes, counts: Matrix) -> None:
    """Draw the images of each bin on a logarithmic scale, because most are in the last bin."""
    axes.bar((np.arange(BIN_COUNT) + 0.5) / BIN_COUNT, counts, width=0.9 / BIN_COUNT, color=BLUE)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.minorticks_off()
    axes.set(xlabel="confidence", ylabel="images", xlim=(-0.02, 1.02), ylim=(0.5, 2 * counts.max()))
    _lighten(axes)


def draw_mistakes(images: Images, truth: Integers, probabilities: Floats, labels: Sequence[str]) -> Figure:
    """The most confident wrong answers, the most confident first; a sentence if there are none."""
    chosen = choose_mistakes(truth, probabilities)
    if not len(chosen):
        figure, sentence = Figure(figsize=(8, 2)), f"No mistakes: all {len(truth)} images got their true label."
        figure.text(0.5, 0.5, sentence, ha="center", va="center", fontsize=13)
        return figure
    down = -(-len(chosen) // MISTAKES_ACROSS)
    figure = Figure(figsize=(2 * MISTAKES_ACROSS, 2.45 * down), layout="constrained")
    for place, index in enumerate(chosen, 1):
        axes = figure.add_subplot(down, MISTAKES_ACROSS, place)
        _draw_image(axes, images[index])
        found = probabilities[index].argmax()
        names = f"true: {_shorten(labels[truth[index]])}\nfound: {_shorten(labels[found])}"
        axes.set_title(f"{names}\n{probabilities[index, found]:.1%}", fontsize=8, loc="left", parse_math=False)
    return figure


def choose_mistakes(truth: Integers, probabilities: Floats) -> npt.NDArray[np.int64]:
    """Indices int64 of up to 25 rows whose highest probability is not at the label, the highest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[order][: MISTAKES_ACROSS**2]


def _draw_image(axes: Axes, image: Images) -> None:
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")  # colour images ignore the map
    axes.set_axis_off()


def write_classes(matrix: Matrix, labels: Sequence[str], path: Path) -> None:
    """Write a row for each class: images, precision, recall and F1. A figure is 0 if its divisor is."""
    right, true, found = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    figures = (_divide(right, found), _divide(right, true), _divide(2 * right, true + found))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "count", "precision", "recall", "f1"))
        for label, count, *rest in zip(labels, true, *figures, strict=True):
            writer.writerow((label, count, *(f"{figure:.4f}" for figure in rest)))


def _divide(parts: Matrix, wholes: Matrix) -> npt.NDArray[np.float64]:
    """Parts over wholes, float64; 0 where the whole is 0."""
    return np.divide(parts, wholes, out=np.zeros(parts.shape), where=wholes > 0)


def _shorten(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def _lighten(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
