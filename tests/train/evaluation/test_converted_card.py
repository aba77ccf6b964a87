"""`train.evaluation.converted_card`: the card of a model of elsewhere says what its calibration was fitted to."""

import dataclasses
from pathlib import Path

import numpy as np

from tests.support import make_spec
from train.evaluation.calibration import apply_softmax
from train.evaluation.converted_card import write_converted_card

CALIBRATION = {"temperature": 2.0, "error_before": 0.1, "error_after": 0.01}


def write(folder: Path, calibration: dict[str, float] | None, count: int = 30) -> str:
    truth = np.arange(30) % 3
    recipe = {
        "converted_from": "net.onnx",
        "source_sha256": "0" * 64,
        "conversion": ["an ONNX model"],
        "parity": {"image_count": 30, "largest_difference": 1e-6, "limit": 1e-5, "changed_classes": 0},
        "calibration": calibration,
    }
    spec = dataclasses.replace(make_spec(recipe=recipe), test_count=count)
    write_converted_card(folder / "README.md", spec, apply_softmax(2 * np.eye(3)[truth]), truth)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_a_temperature_was_fitted_to_pictures_that_were_given(tmp_path: Path) -> None:
    card = write(tmp_path, CALIBRATION)
    assert "before calibration, which was fitted to labelled pictures that these figures leave out." in card
    assert "The probabilities are calibrated" in card
    assert "training" not in card


def test_without_a_temperature_the_card_says_what_was_missing(tmp_path: Path) -> None:
    assert "The probabilities are not calibrated, as too few labelled pictures were given." in write(tmp_path, None)
    assert "The probabilities are not calibrated, as no labelled pictures were given." in write(tmp_path, None, 0)
