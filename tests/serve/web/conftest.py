"""Fixtures of the door: one in front of a server with the tiny models."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serve.web.doors import Answer, Door, ask, open_door
from tests.support import RunningServer

pytest.importorskip("starlette", reason="needs the extra [web]")

Ask = Callable[..., Answer]


@pytest.fixture(scope="session")
def web_server(start_server: Callable[..., RunningServer], repository_folder: Path) -> RunningServer:
    """A server with the tiny models."""
    return start_server(repository_folder)


@pytest.fixture(scope="session")
def door(web_server: RunningServer) -> Iterator[Door]:
    """A door in front of it."""
    with open_door(web_server.address, "--body-timeout-s", "2", "--max-body-bytes", "300000") as door:
        yield door


@pytest.fixture
def get(door: Door) -> Ask:
    """A function that sends a request to the door."""

    def send(path: str, body: bytes | None = None, headers: dict[str, str] | None = None, **others: str) -> Answer:
        return ask(door.url, path, body, headers, **others)  # type: ignore[arg-type]

    return send
