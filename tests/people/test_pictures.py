"""Pictures that were answered wrongly, before the shipped models as a server runs them: own policy, own familiarity."""

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.images.decode import decode
from serve.images.pixels import Report
from serve.images.policies.find import find_policy
from serve.inference.device import Placement
from serve.inference.engine import Engine, load
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.spec import OUTPUT
from tests.support import ROOT

FOLDER = Path(os.environ.get("INKLING_CASES", "absent")) / "people"
DIGITS = sorted(FOLDER.glob("[0-9]_*"))
OBJECTS = sorted(FOLDER.glob("[a-z]*_*[0-9].*"))
STRANGERS = sorted(FOLDER.glob("none_*"))
UNKNOWN = 0.01
"""The familiarity below which an image is of no class."""
STILL_WRONG = {
    "5_cut-edge_03414": "the edge cuts its upper stroke off",
    "none_letters-A_00007": "its strokes are those of an open 4",
}

pytestmark = pytest.mark.skipif(not DIGITS, reason="needs pictures drawn from the datasets in the folder INKLING_CASES")


@functools.cache
def engine(name: str) -> Engine:
    """A shipped model."""
    return load(ROOT / "models" / name / "1/model.onnx", Placement("cpu", 1, 1, 0))


def mark(paths: list[Path]) -> list[Any]:
    """Parameters by name. Pictures that are still wrong have to stay so, or leave the list."""
    return [
        pytest.param(path, id=path.stem, marks=[pytest.mark.xfail(strict=True, reason=STILL_WRONG[path.stem])])
        if path.stem in STILL_WRONG
        else pytest.param(path, id=path.stem)
        for path in paths
    ]


def ask(name: str, path: Path) -> tuple[str, float, list[str]]:
    """A model's label for a picture, its familiarity and the notes."""
    model, report = engine(name), Report()
    spec = model.spec
    pixels = find_policy(spec.prepare, spec.input)(decode(path.read_bytes(), 1_000_000), report)
    outputs = model.run(pixels[np.newaxis])
    return spec.labels["en"][int(outputs[OUTPUT].argmax())], float(outputs[FAMILIARITY][0]), report.notes


@pytest.mark.parametrize("path", mark(DIGITS))
def test_a_digit_is_read_as_people_have_it(path: Path) -> None:
    assert ask("mnist", path)[0] == path.name.partition("_")[0]


@pytest.mark.parametrize("path", mark([path for path in OBJECTS if path not in STRANGERS]))
def test_an_object_is_seen_in_a_worse_picture(path: Path) -> None:
    assert ask("cifar10", path)[0] == path.name.partition("_")[0]


@pytest.mark.parametrize("path", mark(STRANGERS))
def test_what_is_no_digit_is_unknown_or_empty(path: Path) -> None:
    _, familiarity, notes = ask("mnist", path)
    assert familiarity < UNKNOWN or "NO_INK" in notes
