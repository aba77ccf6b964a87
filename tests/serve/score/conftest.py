"""Images and a tiny model in a folder."""

from pathlib import Path

import pytest

from tests.support import Png, write_tiny_model


@pytest.fixture
def folder(tmp_path: Path, png: Png) -> Path:
    """Seven images in two folders, one of which is broken, and the tiny model in versions 1 and 2."""
    for version in (1, 2):
        write_tiny_model(tmp_path / "models/bands", version)
    for number in range(7):
        file = tmp_path / f"images/{number % 2}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number % 3) if number != 4 else png(1, (64, 64))[:-60])
    (tmp_path / "images/notes.txt").write_text("no image")
    return tmp_path
