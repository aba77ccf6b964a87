"""An image file."""

from pathlib import Path

import pytest

from tests.support import Png


@pytest.fixture
def image(tmp_path: Path, png: Png) -> Path:
    """One image file, in a folder of its own."""
    file = tmp_path / "images" / "top.png"
    file.parent.mkdir()
    file.write_bytes(png(0))
    return file
