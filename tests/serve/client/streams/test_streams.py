"""serve.client.streams: `classify_stream` of both clients, with a real server, and with one that ends its streams."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.client import AsyncClient, CallError, Classification, Client
from serve.client.streams.unanswered import MOST_TRIES, WINDOW
from serve.pb import classifier_pb2 as pb
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


@dataclass(frozen=True)
class Plan:
    """What a stream does: answers so many requests, then ends with a code."""

    answers: int
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    pushback_ms: str = ""


class Scripted:
    """A server whose streams follow a plan each, and then answer everything; with the image as the model's name."""

    def __init__(self, *plans: Plan, is_silent: bool = False) -> None:
        self._plans = list(plans)
        self._is_silent = is_silent
        self.streams: list[list[str]] = []
        """The ids of the requests of each stream that were answered."""
        self.begun_s: list[float] = []
        self._server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(
            self._answer, pb.StreamClassifyRequest.FromString, pb.StreamClassifyResponse.SerializeToString
        )
        handlers = {"StreamClassify": handler}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()

    def _answer(self, requests: Iterator[pb.StreamClassifyRequest], context: Any) -> Iterator[Any]:
        self.streams.append([])
        self.begun_s.append(time.monotonic())
        if self._is_silent:
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait()
        ids, plan = self.streams[-1], self._plans.pop(0) if self._plans else None
        for request in requests if not plan or plan.answers else ():
            ids.append(request.id)
            yield pb.StreamClassifyResponse(id=request.id, model=request.image.decode())
            if plan and len(ids) == plan.answers:
                break
        if plan and plan.pushback_ms:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", plan.pushback_ms),))
        if plan and plan.code is not grpc.StatusCode.OK:
            context.abort(plan.code, "not now")


@pytest.fixture
def start() -> Iterator[Callable[..., Scripted]]:
    """A function that starts a `Scripted`. All are stopped at the end."""
    servers: list[Scripted] = []

    def begin(*plans: Plan, **options: Any) -> Scripted:
        servers.append(Scripted(*plans, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


def name(count: int) -> list[bytes]:
    """Images for a `Scripted`: each is its own number."""
    return [str(number).encode() for number in range(count)]


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


@KINDS
def test_what_a_stream_left_unanswered_is_sent_on_another(start: Callable[..., Scripted], kind: type) -> None:
    """Nothing is lost, and nothing that has an answer is sent again."""
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
    server = start(*(Plan(answers, code) for answers, code in zip((40, 0, 25), codes, strict=True)))
    found = collect(kind, server.address, name(1000))
    assert {number: outcome.model for number, outcome in found if isinstance(outcome, Classification)} == {
        number: str(number) for number in range(1000)
    }
    assert [len(ids) for ids in server.streams] == [40, 0, 25, 935]
    assert sorted(map(int, itertools.chain(*server.streams))) == list(range(1000))


@KINDS
def test_a_stream_that_never_answers_is_tried_so_many_times(start: Callable[..., Scripted], kind: type) -> None:
    """GRPC's own retries would multiply with ours."""
    server = start(*[Plan(0)] * 100)
    with pytest.raises(CallError, match=r"^UNAVAILABLE: not now$"):
        collect(kind, server.address, name(3))
    assert len(server.streams) == MOST_TRIES


@KINDS
@pytest.mark.parametrize(
    "plan", [Plan(0, grpc.StatusCode.UNAUTHENTICATED), Plan(0, pushback_ms="-1")], ids=["code", "pushback"]
)
def test_a_failure_that_another_try_does_not_mend_ends_it(
    start: Callable[..., Scripted], kind: type, plan: Plan
) -> None:
    """The status of a first stream may be lost in grpc.aio, if a request was being written when it ended."""
    server = start(*[plan] * 10)
    with pytest.raises(CallError, match="not now"):
        collect(kind, server.address, name(3))
    assert len(server.streams) == 1 or (kind is AsyncClient and len(server.streams) < MOST_TRIES)


@KINDS
def test_a_server_says_when_to_come_again(start: Callable[..., Scripted], kind: type) -> None:
    """Of several streams that are refused, the status of the first may be lost, as above."""
    server = start(*[Plan(0, pushback_ms="900")] * 3)
    assert len(collect(kind, server.address, name(3))) == 3
    assert max(after_s - before_s for before_s, after_s in itertools.pairwise(server.begun_s)) >= 0.9


@KINDS
def test_a_stream_that_ends_well_without_all_answers_is_an_error(start: Callable[..., Scripted], kind: type) -> None:
    with pytest.raises(CallError, match=r"^INTERNAL: wanted an answer to each image, got the end of"):
        collect(kind, start(Plan(2, grpc.StatusCode.OK)).address, name(3))


@KINDS
def test_silence_ends_at_the_timeout(start: Callable[..., Scripted], kind: type) -> None:
    with pytest.raises(CallError, match=r"^DEADLINE_EXCEEDED: no answer came on the stream within 0.3 s"):
        collect(kind, start(is_silent=True).address, name(3), timeout_s=0.3)


def test_images_that_take_their_time_are_waited_for(start: Callable[..., Scripted]) -> None:
    def draw() -> Iterator[bytes]:
        for image in name(2):
            time.sleep(1.5)
            yield image

    assert len(collect(Client, start().address, draw(), timeout_s=1)) == 2


def test_images_that_take_their_time_are_waited_for_by_tasks(start: Callable[..., Scripted]) -> None:
    async def draw() -> AsyncIterator[bytes]:
        for image in name(2):
            await asyncio.sleep(1.5)
            yield image

    async def run() -> int:
        async with AsyncClient(start().address, timeout_s=1) as client:
            return len([outcome async for outcome in client.classify_stream(draw())])

    assert asyncio.run(run()) == 2


@KINDS
def test_a_failure_to_read_an_image_comes_after_the_answers(start: Callable[..., Scripted], kind: type) -> None:
    def draw() -> Iterator[bytes]:
        yield from name(20)
        raise OSError("no such file")

    taken = []

    async def take_in_tasks(address: str) -> None:
        async with AsyncClient(address) as client:
            async for number, _ in client.classify_stream(draw()):
                taken.append(number)

    def take(address: str) -> None:
        with Client(address) as client:
            taken.extend(number for number, _ in client.classify_stream(draw()))

    address = start().address
    with pytest.raises(OSError, match="no such file"):
        take(address) if kind is Client else asyncio.run(take_in_tasks(address))
    assert taken == list(range(20))


class Endless:
    """Images without end, which are counted."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.count += 1
        return b"image"


def test_no_more_is_read_ahead_than_a_window(start: Callable[..., Scripted]) -> None:
    images, before = Endless(), threading.active_count()
    with Client(start().address) as client, closing(client.classify_stream(images)) as outcomes:  # type: ignore[type-var]
        for _ in range(5):
            next(outcomes)
        assert wait_until(lambda: images.count >= WINDOW)
        time.sleep(0.2)
        assert images.count <= WINDOW + 5 + 1
    assert wait_until(lambda: threading.active_count() <= before + 8)  # the threads of the server's pool
    read = images.count
    time.sleep(0.1)
    assert images.count == read


def test_no_more_is_read_ahead_than_a_window_by_tasks(start: Callable[..., Scripted]) -> None:
    images = Endless()

    async def run() -> int:
        async with AsyncClient(start().address) as client:
            async with aclosing(client.classify_stream(images)) as outcomes:  # type: ignore[type-var]
                for _ in range(5):
                    await anext(outcomes)
                await asyncio.sleep(0.3)
                read = images.count
            await asyncio.sleep(0.1)
            assert images.count == read
            assert len(asyncio.all_tasks()) == 1
            return read

    assert WINDOW <= asyncio.run(run()) <= WINDOW + 5 + 1


@KINDS
def test_the_next_image_may_depend_on_the_last_answer(start: Callable[..., Scripted], kind: type) -> None:
    """An answer is given out before the next image is there."""

    async def run(address: str) -> list[int]:
        taken, free = [], asyncio.Event()

        async def draw() -> AsyncIterator[bytes]:
            for image in name(5):
                yield image
                await free.wait()
                free.clear()

        async with AsyncClient(address) as client:
            async for number, _ in client.classify_stream(draw()):
                taken.append(number)
                free.set()
        return taken

    def run_in_threads(address: str) -> list[int]:
        taken, free = [], threading.Semaphore(0)

        def draw() -> Iterator[bytes]:
            for image in name(5):
                yield image
                free.acquire(timeout=10)

        with Client(address) as client:
            for number, _ in client.classify_stream(draw()):
                taken.append(number)
                free.release()
        return taken

    address = start().address
    assert (run_in_threads(address) if kind is Client else asyncio.run(run(address))) == list(range(5))


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
