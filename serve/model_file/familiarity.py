"""What a model file says about its second output, `familiarity`: float32 [N], a share from 0 to 1.

Enters: a JSON value of the metadata. Leaves: a checked `FamiliaritySpec`, or ValueError. Does not know: how it is run.

The familiarity of an image is the share of held-out images that look less typical than it. They are of the training
distribution and prepared as requests are. So a threshold of 0.01 turns away one in a hundred images that belong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve.model_file.values import read_fraction, read_integer, read_mapping, read_text

FAMILIARITY = "familiarity"
"""Name of the output, and of the metadata key."""


@dataclass(frozen=True, slots=True)
class StrangerFigures:
    """How well images of one kind, which belong to no class, are told from held-out images."""

    roc_auc: float
    """Area under the ROC curve, from 0 to 1."""
    caught: float
    """Share of them whose familiarity is below the threshold."""


@dataclass(frozen=True, slots=True)
class FamiliaritySpec:
    """How the familiarity was fitted, and its figures."""

    method: str
    held_out_count: int
    """Images whose distances, with those of their views drawn anew, are the table from distance to share."""
    threshold: float
    """The familiarity below which the figures count an image as turned away or caught."""
    turned_away: float
    """Share of the test images below the threshold."""
    strangers: Mapping[str, StrangerFigures]
    """Figures by kind, of images that were made to choose the method."""


def read_familiarity(value: Any) -> FamiliaritySpec:
    """Read and check the metadata key. Raises ValueError, TypeError and KeyError."""
    facts = read_mapping(value)
    return FamiliaritySpec(
        method=read_text(facts["method"]),
        held_out_count=read_integer(facts["held_out_count"]),
        threshold=read_fraction(facts["threshold"]),
        turned_away=read_fraction(facts["turned_away"]),
        strangers={
            read_text(kind): StrangerFigures(read_fraction(figures["roc_auc"]), read_fraction(figures["caught"]))
            for kind, figures in read_mapping(facts["strangers"]).items()
        },
    )
