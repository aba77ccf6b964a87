"""`tests.people.photographs`: the photographs of each class are found and counted, and nothing else is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.people.measure import Answers
from tests.people.photographs import find_photographs, measure

STAMPS = ("animals/birds/lark.png", "animals/birds/cartoon/tux.png", "vehicles/auto/beetle.png", "food/carrot.png")
LABELS = ["airplane", "automobile", "bird"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Stamps of a bird and of a car, each a file with its own name, and two that show no class or are drawn."""
    for name in STAMPS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.stem)
    return tmp_path


def test_photographs_are_found_by_class_and_drawn_ones_left_out(folder: Path) -> None:
    found = {name: [path.stem for path in paths] for name, paths in find_photographs(folder).items() if paths}
    assert found == {"automobile": ["beetle"], "bird": ["lark"]}


def test_right_and_wrong_answers_are_counted_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(files: Sequence[bytes]) -> Answers:
        classes = {b"lark": 2, b"beetle": 0}  # the car is taken for an airplane
        return Answers(np.array([classes[each] for each in files]), np.ones(len(files), np.float32), [])

    assert measure(answer, LABELS, find_photographs(folder)) == (1, 2)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["automobile 0 of 1 1 airplane", "bird 1 of 1", "all 1 of 2 0.500"]


def test_a_folder_without_stamps_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="wanted the folder stamps of Tux Paint"):
        find_photographs(tmp_path)
