"""The rows of a study -> a plot of accuracy by value: every seed, the mean and the range.

Enters: `Row`s. Leaves: a matplotlib Figure, which needs no screen. Does not know: files, runs, how a study is decided.

Values have equal distances, because 0.25, 0.5, 1 and 2 are steps, as words are. The colours are those of `figures.py`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.evaluation.figures import BLUE, GREY, VERMILION
from train.studies.catalogue import Study, spell_value
from train.studies.table import Row

APART = 0.035  # columns between the points of two seeds, so that equal points can be counted
LEAST_ACROSS = 4  # columns of the plot at least, so that few values are not drawn wider
LEAST_HEIGHT = 0.02  # least range of the accuracy axis, so that a small difference does not look large


def draw_study(study: Study, rows: Sequence[Row], caption: str) -> Figure:
    """Draw a column of points for each value. `caption` says what all runs have in common."""
    across = max(len(rows), LEAST_ACROSS)
    figure = Figure(figsize=(1.5 + 1.4 * across, 4.8), layout="constrained")
    axes = figure.add_subplot()
    _draw_ranges(axes, rows)
    _draw_means(axes, rows, is_ordered=not any(isinstance(row.value, str) for row in rows))
    _draw_seeds(axes, rows)
    axes.set_title(study.question, fontsize=13, loc="left", pad=24, wrap=True)
    axes.annotate(caption, (0, 1), (0, 6), "axes fraction", textcoords="offset points", fontsize=9, color=GREY)
    axes.set(xlabel=study.axis, ylabel="validation accuracy", ylim=_find_limits(rows))
    axes.set_xlim((len(rows) - 1 - across) / 2, (len(rows) - 1 + across) / 2)
    axes.set_xticks(range(len(rows)), [spell_value(row.value) for row in rows])
    axes.legend(
        *_sort_legend(axes), frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    return figure


def _draw_ranges(axes: Axes, rows: Sequence[Row]) -> None:
    lowest, highest = [row.lowest for row in rows], [row.highest for row in rows]
    heights = np.subtract(highest, lowest)
    axes.bar(range(len(rows)), heights, 0.32, lowest, color=BLUE, alpha=0.16, label="lowest to highest")


def _draw_means(axes: Axes, rows: Sequence[Row], is_ordered: bool) -> None:
    """Draw a short bar with its figure for each mean. A line joins them if the values have an order."""
    places, means = range(len(rows)), [row.mean for row in rows]
    if is_ordered:
        axes.plot(places, means, color=BLUE, linewidth=1.2, alpha=0.7)
    axes.plot(places, means, "_", color=BLUE, markersize=26, markeredgewidth=2.2, label="mean")
    for place, mean in zip(places, means, strict=True):
        axes.annotate(f"{mean:.4f}", (place, mean), (22, 0), textcoords="offset points", fontsize=9, va="center")


def _draw_seeds(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        count = len(row.accuracies)
        across = place + APART * (np.arange(count) - (count - 1) / 2)
        axes.plot(across, row.accuracies, "o", color=VERMILION, markersize=4.5, label="" if place else "a seed")


def _sort_legend(axes: Axes) -> tuple[list[Artist], list[str]]:
    """Handles and labels of the legend, the points first."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    order = ("a seed", "mean", "lowest to highest")
    return [found[label] for label in order], list(order)


def _find_limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The range of the accuracy axis: the accuracies and a margin, at least LEAST_HEIGHT."""
    lowest, highest = min(row.lowest for row in rows), max(row.highest for row in rows)
    air = max(0.08 * (highest - lowest), (LEAST_HEIGHT - (highest - lowest)) / 2)
    return lowest - air, highest + air
