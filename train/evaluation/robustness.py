"""The line of JSON of `serve.evaluate --corruptions --json` -> a section of a model's card.

Enters: the text of that line, and the path of a card of `card.py`. Leaves: the card with a table of its own for them.
Does not know: corruptions, servers, how anything was measured.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.evaluation.card import replace_text

HEADING, FOLLOWING = "## Corrupted images", "## Training"
SEVERITIES = 5


def read_corruptions(text: str) -> Mapping[str, Any]:
    """The accuracies of a line. Raises ValueError if it is another one, such as that of an error."""
    try:
        found: Mapping[str, Any] = json.loads(text)
        rows = found["corruptions"]
        is_whole = bool(rows) and all(len(row) == SEVERITIES for row in rows.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("wanted the line that serve.evaluate --corruptions --json prints") from error
    if not is_whole:
        raise ValueError(f"wanted {SEVERITIES} severities of each corruption")
    return found


def add_corruptions(card: Path, found: Mapping[str, Any]) -> None:
    """Write the section into a card, before that of the training; an older one is replaced."""
    text = card.read_text(encoding="utf-8")
    text = re.sub(rf"^{HEADING}\n.*?(?=^{FOLLOWING})", "", text, flags=re.MULTILINE | re.DOTALL)
    before, heading, after = text.partition(FOLLOWING)
    if not heading:
        raise ValueError(f"{card}: wanted a card with the heading {FOLLOWING!r}")
    replace_text(card, f"{before}{describe_corruptions(found)}\n{heading}{after}")


def describe_corruptions(found: Mapping[str, Any]) -> str:
    """The section: accuracy for each corruption and severity, and the mean."""
    rows = [
        f"| {name.replace('_', ' ')} | {' | '.join(f'{each:.4f}' for each in row)} | {found['means'][name]:.4f} |"
        for name, row in found["corruptions"].items()
    ]
    of_all = (
        f"Accuracy on {found['images']:,} test images through a server, with the corruptions of CIFAR-10-C at their "
        f"published severities: mean {found['mean']:.4f}, {found['accuracy']:.4f} without any. Frost is left out.\n"
        "Speckle noise, a Gaussian blur and saturation do not count in the mean.\n"
        f"`python -m serve.evaluate --sample {found['images']} --corruptions all DIR` measures it."
    )
    head = f"| corruption | {' | '.join(map(str, range(1, SEVERITIES + 1)))} | mean |"
    return "\n".join([HEADING, "", of_all, "", head, "|---" * (SEVERITIES + 2) + "|", *rows, ""])
