"""`train.evaluation.robustness`: the table of corrupted images in a card."""

import json
from pathlib import Path

import pytest

from serve.client.corruptions.report import summarize_table
from train.evaluation.robustness import FOLLOWING, HEADING, add_corruptions, read_corruptions

ROWS = {"gaussian_noise": [0.9, 0.8, 0.7, 0.6, 0.5], "fog": [0.95] * 5}


def write_line(rows: dict[str, list[float]]) -> str:
    """The line that the command prints."""
    return json.dumps({"accuracy": 0.951, "images": 1000, **summarize_table(rows)})


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"# A model\n\n## Results\n\nGood.\n\n{FOLLOWING}\n\nLong.\n")
    return path


def test_a_card_gets_a_row_for_each_corruption_before_its_training(card: Path) -> None:
    add_corruptions(card, read_corruptions(write_line(ROWS)))
    text = card.read_text()
    assert "| gaussian noise | 0.9000 | 0.8000 | 0.7000 | 0.6000 | 0.5000 | 0.7000 |" in text
    assert "mean 0.8250, 0.9510 without any" in text
    assert "`python -m serve.evaluate --sample 1000 --corruptions all DIR`" in text
    assert text.index("Good.") < text.index(HEADING) < text.index(FOLLOWING)
    assert text.endswith("Long.\n")


def test_an_older_table_is_replaced(card: Path) -> None:
    add_corruptions(card, read_corruptions(write_line(ROWS)))
    add_corruptions(card, read_corruptions(write_line({"fog": [0.5] * 5})))
    text = card.read_text()
    assert text.count(HEADING) == text.count("| fog |") == 1
    assert "gaussian" not in text


@pytest.mark.parametrize("line", ["", "[]", '{"error": {}}', '{"corruptions": {}}', '{"corruptions": {"fog": [1]}}'])
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="wanted"):
        read_corruptions(line)


def test_a_file_that_is_no_card_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("notes")
    with pytest.raises(ValueError, match="wanted a card"):
        add_corruptions(tmp_path / "notes.md", read_corruptions(write_line(ROWS)))
    assert (tmp_path / "notes.md").read_text() == "notes"
