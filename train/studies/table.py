"""Finished runs of a study -> a row per value, a conclusion, and both as a table in Markdown.

Enters: `Run`s of one study that differ only in value and seed. Leaves: text. Does not know: files, Keras, plots.

A comparison of two values is decided if every run of one value is above every run of the other. Both need at least 3
seeds. If the values were equal, chance would decide 1 of 10 comparisons of 3 seeds each. With 4 seeds it would decide 1
of 35, and with 5 seeds 1 of 126.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from train.studies.catalogue import Study, Value, spell_value
from train.studies.results import Run

LEAST_SEEDS = 3


@dataclass(frozen=True)
class Row:
    """The figures of all runs of a value."""

    value: Value
    parameters: int
    accuracies: tuple[float, ...]
    """Validation accuracies, one for each seed."""
    train_accuracy: float  # mean over the seeds
    seconds: float  # mean over the seeds

    @property
    def mean(self) -> float:
        """The mean validation accuracy."""
        return fmean(self.accuracies)

    @property
    def lowest(self) -> float:
        """The lowest validation accuracy."""
        return min(self.accuracies)

    @property
    def highest(self) -> float:
        """The highest validation accuracy."""
        return max(self.accuracies)


def summarise(runs: Sequence[Run]) -> list[Row]:
    """Make a row for each value: numbers by size, words in the order of their first run."""
    values = list(dict.fromkeys(run.value for run in runs))
    if not any(isinstance(value, str) for value in values):
        values.sort(key=float)
    return [_summarise(value, [run for run in runs if run.value == value]) for value in values]


def _summarise(value: Value, runs: Sequence[Run]) -> Row:
    return Row(
        value=value,
        parameters=runs[0].parameters,
        accuracies=tuple(run.validation_accuracy for run in sorted(runs, key=lambda run: run.seed)),
        train_accuracy=fmean(run.train_accuracy for run in runs),
        seconds=fmean(run.seconds for run in runs),
    )


def conclude(rows: Sequence[Row]) -> list[str]:
    """Sentences: one about the value with the highest mean, and one for each other value that it is compared with."""
    if len(rows) < 2:
        return ["Undecided: there are not two values to compare yet."]
    best = max(rows, key=lambda row: row.mean)
    doubts = {row.value: _doubt(best, row) for row in rows if row is not best}
    against = [
        f"against {spell_value(row.value)} ({spell_range(row)}): "
        + (f"undecided, {doubts[row.value]}" if doubts[row.value] else "decided")
        for row in rows
        if row is not best
    ]
    found = f"{spell_value(best.value)} has the highest mean, {best.mean:.4f} ({spell_range(best)})"
    if any(doubts.values()):
        return [f"Undecided: {found}, but not every comparison with it is decided.", *against]
    return [f"Decided: {found}, and each of its runs is above all runs of the other values.", *against]


def _doubt(best: Row, other: Row) -> str:
    """Why the comparison of the best row with another is undecided; empty if it is decided."""
    few = [row for row in (best, other) if len(row.accuracies) < LEAST_SEEDS]
    if few:
        counts = " and ".join(f"{spell_value(row.value)} has {len(row.accuracies)}" for row in few)
        return f"wanted at least {LEAST_SEEDS} seeds, {counts}"
    return "" if best.lowest > other.highest else "the ranges overlap"


def spell_range(row: Row) -> str:
    """Write the range of a row's accuracies."""
    return f"{row.lowest:.4f} to {row.highest:.4f}"


def write_table(study: Study, rows: Sequence[Row], facts: Sequence[str]) -> str:
    """Write the whole table.md. `facts` are sentences about what all runs have in common."""
    sentence, *against = conclude(rows)
    head = ("", "parameters", "seeds", "mean", "lowest to highest", "sd", "in training", "seconds a run")
    lines = [_join([study.name, *head[1:]]), _join(["---", *["---:"] * (len(head) - 1)])]
    lines += [_join(_write_cells(row)) for row in rows]
    parts = (
        [f"# {study.question}", ""],
        [f"**{sentence}**", ""],
        [*map(_point, against), ""],
        [*lines, ""],
        map(_point, (*facts, *NOTES)),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


NOTES = """\
The figures are validation accuracies on held-out training images, after the last epoch. With augmentation, the \
classes were balanced on the other training images. The figures chose nothing in a run, and the test set was not read.
`sd` is the standard deviation, over 3 seeds or more. `in training` is the mean accuracy of the last epoch's batches, \
with augmentation and dropout if there is any.
A comparison is decided if every run of one value is above every run of the other, with 3 seeds or more each. If there \
is no difference, chance alone separates 3 seeds from 3 in 1 of 10 comparisons, and 5 from 5 in 1 of 126. The best of \
many values has more chances.
""".splitlines()


def _write_cells(row: Row) -> list[str]:
    deviation = f"{stdev(row.accuracies):.4f}" if len(row.accuracies) >= LEAST_SEEDS else "-"
    figures = (f"{row.mean:.4f}", spell_range(row), deviation, f"{row.train_accuracy:.4f}", f"{row.seconds:.0f}")
    return [spell_value(row.value), f"{row.parameters:,}", f"{len(row.accuracies)}", *figures]


def _join(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _point(sentence: str) -> str:
    return f"- {sentence}"
