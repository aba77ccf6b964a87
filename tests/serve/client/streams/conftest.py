"""A server with scripted streams."""

from collections.abc import Callable, Iterator

import pytest

from tests.serve.client.streams.scripted import Scripted
from tests.support import starting


@pytest.fixture
def start() -> Iterator[Callable[..., Scripted]]:
    """A function that starts a `Scripted`. All are stopped at the end."""
    with starting(Scripted) as start:
        yield start
