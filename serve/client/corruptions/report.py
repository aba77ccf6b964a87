"""Accuracies by corruption and severity -> a table and a mean.

Enters: the names that a user gave, or accuracies from 0 to 1. Leaves: checked names, printed lines, JSON values.
Does not know: images, servers.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from serve.client.corruptions.table import ALL, MEASURED, SEVERITIES

Accuracies = Mapping[str, Sequence[float]]
"""By name of the corruption, one for each severity."""


def read_names(text: str) -> list[str]:
    """The corruptions that a text names: those of the mean if it is empty. Raises ArgumentTypeError."""
    if text in ("", "all"):
        return list(ALL if text else MEASURED)
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise argparse.ArgumentTypeError(f"wanted names among {', '.join(ALL)}; got {', '.join(unknown)}")
    return names


def summarize_table(accuracies: Accuracies) -> dict[str, Any]:
    """The accuracies, the mean of each corruption, and the mean over all that are measured, as JSON values."""
    means = {name: sum(row) / len(row) for name, row in accuracies.items()}
    return {"corruptions": {name: list(row) for name, row in accuracies.items()}, "means": means, "mean": _mean(means)}


def print_table(accuracies: Accuracies, plain: float, count: int) -> None:
    """Print a row for each corruption with a column for each severity and the mean, and the mean of the rows."""
    print(f"{'severity':<18} {'  '.join(f'{severity:>6}' for severity in SEVERITIES)}    mean")
    summary = summarize_table(accuracies)
    for name, row in accuracies.items():
        print(f"{name:<18} {'  '.join(f'{each:6.4f}' for each in row)}  {summary['means'][name]:6.4f}")
    print(f"{'none':<18} {plain:6.4f}  ({count:,} images)")
    print(f"{'mean':<18} {summary['mean']:6.4f}  over {_describe(accuracies)}, five severities each")


def _mean(means: Mapping[str, float]) -> float:
    """The mean over the benchmark's corruptions; if none of them was measured, over those that were."""
    counted = [mean for name, mean in means.items() if name in MEASURED] or list(means.values())
    return sum(counted) / len(counted)


def _describe(accuracies: Accuracies) -> str:
    counted = [name for name in accuracies if name in MEASURED] or list(accuracies)
    missing = [] if set(MEASURED) <= set(counted) else ["not the benchmark's mean"]
    return ", ".join([f"{len(counted)} corruptions without frost", *missing])
