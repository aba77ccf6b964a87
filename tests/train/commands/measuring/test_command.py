"""`python -m train.measure`: a line of JSON for each file and for each net of the field."""

import json
from pathlib import Path

import pytest

from tests.support import write_tiny_model
from train.commands.measuring.command import main
from train.export.measure.published import PUBLISHED


def test_each_file_has_a_row_with_its_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_model(tmp_path / "bands")
    write_tiny_model(tmp_path / "bands", precision="int8", test_accuracy=0.5).rename(
        tmp_path / "bands" / "1" / "model.int8.onnx"
    )
    write_tiny_model(tmp_path / "bands")
    assert main(["--models", str(tmp_path), "--no-time", "--machine", "amx"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ours = [row for row in rows if row["model"] == "bands"]
    assert {row["precision"]: row["test_accuracy"] for row in ours}["int8"] == 0.5
    assert [row["million_multiply_adds"] for row in ours] == [round(12 * 12 * 3 * 3 / 1e6, 1)] * 2
    assert [row["model"] for row in rows[2:]] == [net.name for net in PUBLISHED]
    assert all((row["machine"], row["batch_1_us"], len(row["commit"])) == ("amx", None, 7) for row in rows)


def test_a_damaged_file_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_model(tmp_path / "bands").write_bytes(b"no model")
    assert main(["--models", str(tmp_path), "--no-time"]) == 1
    assert "error" in capsys.readouterr().err


def test_a_card_gets_the_accuracies_on_corrupted_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, line = tmp_path / "README.md", tmp_path / "corruptions.json"
    card.write_text("## Training\n")
    line.write_text(
        json.dumps({"accuracy": 1, "images": 4, "corruptions": {"fog": [1] * 5}, "means": {"fog": 1}, "mean": 1})
    )
    assert main(["--card", str(card), "--corruptions", str(line)]) == 0
    assert "| fog | 1.0000 |" in card.read_text()
    assert capsys.readouterr().out == f"wrote {card}\n"
    assert main(["--card", str(line), "--corruptions", str(line)]) == 1
    with pytest.raises(SystemExit):
        main(["--card", str(card)])
