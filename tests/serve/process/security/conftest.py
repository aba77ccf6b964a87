"""The file of tokens that a server begins with."""

from pathlib import Path

import pytest

from tests.serve.process.security.callers import ALICES


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The file of tokens."""
    file = tmp_path / "tokens"
    file.write_text(f"alice {ALICES}\n")
    return file
