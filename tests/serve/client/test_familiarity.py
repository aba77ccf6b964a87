"""What the client's command makes of familiarity: a word in the language asked for, a row, a line of JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.client.__main__ import main
from serve.client.commands.output import name_unknown, to_json, to_row
from serve.client.messages import Classification, ClassProbability, Timing
from tests.support import Png, RunningServer, write_tiny_model

TIMING = Timing(1, 1, 1, 1, 1, 1)
CLASSES = (ClassProbability("seven", 7, 0.97), ClassProbability("one", 1, 0.02))


def answer(familiarity: float | None, unknown: bool = False) -> Classification:
    return Classification("m", "1", "int8", CLASSES, TIMING, b"", familiarity=familiarity, unknown=unknown)


def test_a_row_ends_with_the_familiarity_if_there_is_one() -> None:
    assert to_row("a.png", answer(0.25), 5).endswith("97.0%  one 2.0%  familiarity 25.0%")
    assert to_row("a.png", answer(None), 5).endswith("97.0%  one 2.0%")


@pytest.mark.parametrize(
    ("language", "word"), [("", "unknown"), ("ru-RU", "неизвестно"), ("DE", "unbekannt"), ("xx", "unknown")]
)
def test_an_unknown_image_has_that_word_and_keeps_its_classes(language: str, word: str) -> None:
    row = to_row("a.png", answer(0.004, unknown=True), 5, language)
    assert row.startswith(f"a.png  {word}")
    assert "0.4%" in row
    assert "seven 97.0%  one 2.0%  familiarity 0.4%" in row
    assert name_unknown(language) == word


def test_json_has_it_if_the_model_gives_it() -> None:
    facts = json.loads(to_json("a.png", answer(0.004, unknown=True)))
    assert (facts["familiarity"], facts["unknown"], facts["classes"][0]["label"]) == (0.004, True, "seven")
    assert not {"familiarity", "unknown"} & set(json.loads(to_json("a.png", answer(None))))


def test_the_command_asks_for_a_least_familiarity(
    start_server: Callable[..., RunningServer], tmp_path: Path, png: Png, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_model(tmp_path / "models" / "bright", name="bright", brightness=1)
    image = tmp_path / "a.png"
    image.write_bytes(png(0))
    address = ["--address", start_server(tmp_path / "models").address, str(image)]
    assert main(["--min-familiarity", "0.4", "--language", "ru", *address]) == 0
    assert "неизвестно" in capsys.readouterr().out
    assert main(["--min-familiarity", "0.3", *address]) == 0
    assert "unknown" not in capsys.readouterr().out
    for wrong in ("1.5", "nan", "-0.1", "much"):
        with pytest.raises(SystemExit):
            main([f"--min-familiarity={wrong}", *address])
        assert "wanted a share from 0 (off) to 1, such as 0.01" in capsys.readouterr().err
