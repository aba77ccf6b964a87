"""The folder of models that a team begins with."""

from pathlib import Path

import pytest

from tests.support import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with version 1 of `bands`."""
    write_tiny_model(tmp_path / "models/bands", 1)
    return tmp_path / "models"
