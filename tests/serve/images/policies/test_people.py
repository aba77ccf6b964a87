"""serve.images.policies.digit_2 before the shipped net: pictures that were answered wrongly are answered rightly.

The pictures of `tests/reported` are ours. Those of INKLING_CASES are drawn from test images of the datasets, which are
not for this repository.
"""

import functools
import os
from pathlib import Path

import numpy as np
import pytest

from serve.images.decode import decode
from serve.images.pixels import Report
from serve.inference.device import Placement
from serve.inference.engine import Engine, load
from serve.model_file.spec import OUTPUT
from tests.serve.images.policies.test_digit_2 import DIGIT
from tests.support import ROOT

REPORTED = sorted(path for kind in ("paper", "canvas", "deep") for path in (ROOT / "tests/reported" / kind).iterdir())
PEOPLE = Path(os.environ.get("INKLING_CASES", "absent")) / "people"
OTHERS = sorted(path for path in PEOPLE.glob("[0-9]_*"))


@functools.cache
def net() -> Engine:
    """The shipped model for digits."""
    return load(ROOT / "models/mnist/1/model.onnx", Placement("cpu", 1, 1, 0))


def read(path: Path) -> tuple[int, list[str]]:
    """The digit that the net sees, and the policy's notes."""
    report = Report()
    pixels = DIGIT(decode(path.read_bytes(), 1_000_000), report)
    return int(net().run(pixels[np.newaxis])[OUTPUT].argmax()), report.notes


@pytest.mark.parametrize("path", REPORTED, ids=lambda path: path.stem)
def test_a_picture_of_a_report_is_read_rightly(path: Path) -> None:
    """The digit stands at the end of its name."""
    assert read(path) == (int(path.stem[-1]), ["ONE_PART"])


@pytest.mark.skipif(not OTHERS, reason="needs pictures drawn from the datasets in the folder INKLING_CASES")
def test_pictures_drawn_from_the_datasets_are_read_rightly() -> None:
    """Those whose digit the edge cuts are left to training."""
    wrong = [path.name for path in OTHERS if read(path)[0] != int(path.name[0]) and "cut-edge" not in path.name]
    assert not wrong


@pytest.mark.skipif(not OTHERS, reason="needs pictures drawn from the datasets in the folder INKLING_CASES")
def test_a_blank_page_drawn_from_the_datasets_has_no_ink() -> None:
    (blank,) = PEOPLE.glob("none_blank*")
    assert read(blank)[1] == ["NO_INK"]
