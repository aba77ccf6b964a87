"""Answers of a server beside the classes of the images -> figures, and printed lines.

Enters: `Verdict`s. Leaves: accuracies, a table, the mistakes, a comparison of two versions.
Does not know: servers, files of images.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.client.commands.output import escape


@dataclass(frozen=True, slots=True)
class Verdict:
    """The server's answer for one image, beside the image's class."""

    file: Path
    wanted: str
    """The class: the folder's name."""
    got: str
    """The most probable label."""
    probability: float
    """The probability of `got`, from 0 to 1."""

    @property
    def is_right(self) -> bool:
        """Whether the most probable label is the class."""
        return self.wanted == self.got


def summarize(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Accuracy over all images and per class, from 0 to 1, with the counts of right answers and of images."""
    total = Counter(verdict.wanted for verdict in verdicts)
    right = Counter(verdict.wanted for verdict in verdicts if verdict.is_right)
    return {
        "accuracy": right.total() / total.total(),
        "right": right.total(),
        "images": total.total(),
        "classes": {label: right[label] / total[label] for label in sorted(total)},
    }


def print_report(verdicts: Sequence[Verdict], max_mistakes: int) -> None:
    """Print the accuracy of each class and of all, then the most confident mistakes."""
    summary = summarize(verdicts)
    for label, share in summary["classes"].items():
        print(f"{label:<12} {share:7.2%}")
    print(f"{'accuracy':<12} {summary['accuracy']:.4f}  ({summary['right']} of {summary['images']})")
    mistakes = sorted((each for each in verdicts if not each.is_right), key=lambda each: -each.probability)
    for mistake in mistakes[:max_mistakes]:
        print(f"{escape(str(mistake.file))}  is {mistake.wanted}, got {mistake.got} ({mistake.probability:.1%})")


def print_comparison(names: Sequence[str], first: Sequence[Verdict], second: Sequence[Verdict], max_lines: int) -> None:
    """Print the accuracy of two versions and the images on which they differ."""
    pairs = list(zip(first, second, strict=True))
    counts = Counter((old.is_right, new.is_right) for old, new in pairs)
    for name, verdicts in zip(names, (first, second), strict=True):
        print(f"version {name}: accuracy {summarize(verdicts)['accuracy']:.4f}")
    print(f"both right {counts[True, True]}, both wrong {counts[False, False]}")
    print(f"only {names[0]} right {counts[True, False]}, only {names[1]} right {counts[False, True]}")
    differing = [(old, new) for old, new in pairs if old.got != new.got]
    for old, new in differing[:max_lines]:
        print(f"{escape(str(old.file))}  is {old.wanted}, {names[0]} says {old.got}, {names[1]} says {new.got}")
