"""serve.client.streams: `classify_stream` of both clients, with a real server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from serve.client import AsyncClient, CallError, Classification, Client
from tests.served import wait_until
from tests.support import Png, RunningServer

Outcomes = list[tuple[int, Classification | CallError]]
KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])


def collect(kind: type, address: str, images: Iterable[bytes], *, model: str = "", **options: Any) -> Outcomes:
    """All outcomes of one stream."""
    if kind is Client:
        with Client(address, **options) as client:
            return list(client.classify_stream(images, model=model))

    async def run() -> Outcomes:
        async with AsyncClient(address, **options) as client:
            return [each async for each in client.classify_stream(images, model=model)]

    return asyncio.run(run())


@pytest.mark.slow
@KINDS
def test_each_of_thousands_of_images_has_its_own_answer(server: RunningServer, png: Png, kind: type) -> None:
    images = [png(0), png(1), png(2)] * 700
    found = collect(kind, server.address, iter(images), model="bands")
    assert len(found) == len(images)
    labels = {number: outcome.best.label for number, outcome in found if isinstance(outcome, Classification)}
    assert labels == {number: ("top", "middle", "bottom")[number % 3] for number in range(len(images))}


@KINDS
def test_an_image_that_fails_is_an_error_in_its_place(server: RunningServer, png: Png, kind: type) -> None:
    images = [png(0), b"no image", bytes(5000), png(2)]
    found = dict(collect(kind, server.address, images, model="bands", max_message_bytes=4000))
    assert {number: getattr(outcome, "reason", "") for number, outcome in found.items()} == {
        0: "",
        1: "IMAGE_UNREADABLE",
        2: "MESSAGE_TOO_LARGE",
        3: "",
    }


def test_the_options_reach_the_server(server: RunningServer, png: Png) -> None:
    with Client(server.address) as client:
        options = {"model": "bands", "version": "1", "top_k": 2, "language": "ru"}
        ((number, answer),) = client.classify_stream([png(2)], **options)  # type: ignore[arg-type]
        expected = client.classify(png(2), **options)  # type: ignore[arg-type]
    assert isinstance(answer, Classification)
    assert (number, answer.version, answer.classes) == (0, "1", expected.classes)
    assert answer.best.label == "низ"


@KINDS
def test_no_images_have_no_answers(server: RunningServer, kind: type) -> None:
    assert collect(kind, server.address, [], model="bands") == []


def test_images_may_come_from_an_asynchronous_iterator(server: RunningServer, png: Png) -> None:
    async def draw() -> AsyncIterator[bytes]:
        for band in (2, 0):
            await asyncio.sleep(0.05)
            yield png(band)

    async def run() -> dict[int, str]:
        async with AsyncClient(server.address) as client:
            found = {number: answer async for number, answer in client.classify_stream(draw(), model="bands")}
            return {number: answer.best.label for number, answer in found.items() if isinstance(answer, Classification)}

    assert asyncio.run(run()) == {0: "bottom", 1: "top"}


@pytest.mark.slow
@KINDS
def test_a_server_that_stops_loses_no_image_of_a_stream(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png, kind: type
) -> None:
    """Two servers behind one address, of which the one that is used stops while images come."""
    servers = [start_server(repository_folder, grace_s=5) for _ in range(2)]
    image, total = png(1), 4000
    stopping: list[int] = []

    def stop_the_used() -> None:
        wait_until(lambda: max(map(count_images, servers)) > total // 8)
        counts = [count_images(server) for server in servers]
        stopping.append(counts.index(max(counts)))
        servers[stopping[0]].stop()

    stopper = threading.Thread(target=stop_the_used)
    stopper.start()
    found = collect(kind, ",".join(server.address for server in servers), [image] * total, model="bands")
    stopper.join()
    assert sorted(number for number, _ in found) == list(range(total))
    assert {outcome.best.label for _, outcome in found if isinstance(outcome, Classification)} == {"middle"}
    assert not any(isinstance(outcome, CallError) for _, outcome in found)
    assert count_images(servers[1 - stopping[0]]) > 0


def count_images(server: RunningServer) -> int:
    """Images that a server has answered."""
    return asyncio.run(server.ask_statistics("bands", "2")).images


def test_a_token_goes_with_each_stream(
    start_server: Callable[..., RunningServer], repository_folder: Path, tmp_path: Path, png: Png
) -> None:
    (tmp_path / "tokens").write_text("alice a-secret-of-alice\n")
    address = start_server(repository_folder, tokens=tmp_path / "tokens").address
    for kind in (Client, AsyncClient):
        assert len(collect(kind, address, [png(0)], model="bands", token="a-secret-of-alice")) == 1  # noqa: S106
        with pytest.raises(CallError, match=r"^UNAUTHENTICATED: "):
            collect(kind, address, [png(0)], model="bands")
