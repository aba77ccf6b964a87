"""Finished runs of a study -> a row per value, a conclusion, and both as a table in Markdown.

Enters: `Run`s of one study that differ in value and seed alone. Leaves: text. Does not know: files, Keras, plots.

The rule is plain on purpose. Two values are told apart where every run of one is above every run of the other, and
either has 3 seeds or more. If there were no difference, 3 seeds a side would part so in 1 of 10 comparisons, 4 in 1 of
35, 5 in 1 of 126: who wants to be surer, takes more seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from train.studies.catalogue import Study, Value, spell_value
from train.studies.results import Run

LEAST_SEEDS = 3


@dataclass(frozen=True)
class Row:
    """What the runs of one value came to."""

    value: Value
    parameters: int
    accuracies: tuple[float, ...]
    """Of validation, one for each seed."""
    train_accuracy: float
    seconds: float
    """Mean over the seeds, as the one before."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.accuracies)

    @property
    def lowest(self) -> float:
        """Of the seeds."""
        return min(self.accuracies)

    @property
    def highest(self) -> float:
        """Of the seeds."""
        return max(self.accuracies)


def summarise(runs: Sequence[Run]) -> list[Row]:
    """A row per value: numbers by size, words in the order of their first run."""
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
    """A sentence about the value with the highest mean, and one for each other value that it is held against."""
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
    return [f"Decided: {found}, and its every run is above all runs of any other value.", *against]


def _doubt(best: Row, other: Row) -> str:
    """Why the better of two rows is not known to be better; empty where it is."""
    few = [row for row in (best, other) if len(row.accuracies) < LEAST_SEEDS]
    if few:
        counts = " and ".join(f"{spell_value(row.value)} has {len(row.accuracies)}" for row in few)
        return f"wanted {LEAST_SEEDS} seeds at least, {counts}"
    return "" if best.lowest > other.highest else "the ranges overlap"


def spell_range(row: Row) -> str:
    """From the lowest to the highest."""
    return f"{row.lowest:.4f} to {row.highest:.4f}"


def write_table(study: Study, rows: Sequence[Row], facts: Sequence[str]) -> str:
    """The whole of table.md; `facts` are sentences about what all runs had in common."""
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
The figures are validation accuracies: of training images that were held out, after the last epoch, the classes \
balanced on the others where those were augmented. Nothing in a run was chosen by them, and the test set was not read.
`sd` is the standard deviation, over 3 seeds or more. `in training` is the mean accuracy of the last epoch's batches, \
augmented and under dropout if there is any.
A comparison is decided where every run of one value is above every run of the other, with 3 seeds or more each. Where \
there is no difference, chance alone parts 3 seeds from 3 in 1 of 10 comparisons, 5 from 5 in 1 of 126; the best of \
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
