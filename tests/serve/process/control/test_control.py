"""serve.process.control: one decides and two follow, which are real servers with real links, in one process."""

import asyncio
import contextlib
import logging
import math
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.config import ServerConfig
from serve.errors import ConfigError, ModelControlOff, ModelRefused, NotFound
from serve.inference import engine
from serve.model_file.folder import ModelFile
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from serve.process.control.decide import MOST_CRASHES, Decider
from serve.process.control.follow import Follower
from serve.process.link import Desired, Link, Loading
from serve.process.server import Server
from tests.support import Png, write_tiny_model


class Team:
    """A decider and the workers that follow it."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.decider = Decider(config)
        self.servers: list[Server] = []
        self.controls: list[Follower] = []
        self.links: list[Link] = []
        self.tasks = [asyncio.create_task(self.decider.run())]

    async def add_worker(self) -> None:
        """One more worker, which serves."""
        number = len(self.servers)
        theirs = await self.link(number)
        follower = Follower(theirs)
        self.tasks.append(asyncio.create_task(self._pass_on(theirs, follower)))
        server = Server(self.config, on_loading=lambda file: theirs.send(Loading(file.name, file.version)))
        await follower.start(server)
        self.tasks.append(asyncio.create_task(follower.run(server)))
        self.servers.append(server)
        self.controls.append(follower)

    async def link(self, number: int) -> Link:
        """A worker's end of a link to the decider, who counts on it from now on."""
        ends = socket.socketpair()
        ours, theirs = [await Link.over(end) for end in ends]
        self.links += [ours, theirs]

        async def listen() -> None:
            async for message in ours.receive():
                self.decider.note(message, number)

        self.tasks.append(asyncio.create_task(listen()))
        await self.decider.join(number, ours)
        return theirs

    async def close(self) -> None:
        """Stop all of them."""
        for task in self.tasks:
            task.cancel()
        for server in self.servers:
            await server.stop()
        for link in self.links:
            link.close()

    def versions(self) -> list[dict[str, tuple[int, ...]]]:
        """What is live in each worker."""
        return [{name: each.registry.versions(name) for name in each.registry.names} for each in self.servers]

    async def _pass_on(self, link: Link, follower: Follower) -> None:
        async for message in link.receive():
            follower.note(message)


@asynccontextmanager
async def team(folder: Path, **settings: object) -> AsyncIterator[Team]:
    config = ServerConfig(models=folder, port=0, device="cpu", workers=2, grace_s=1, **settings)  # type: ignore[arg-type]
    found = Team(config)
    try:
        for _ in range(2):
            await found.add_worker()
        yield found
    finally:
        await found.close()


def explicit(folder: Path, scenario: Callable[[Team], Awaitable[None]]) -> None:
    """A scenario with two workers under explicit control."""

    async def main() -> None:
        async with asyncio.timeout(30), team(folder, model_control="explicit") as found:
            await scenario(found)

    asyncio.run(main())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with version 1 of `bands`."""
    write_tiny_model(tmp_path / "models/bands", 1)
    return tmp_path / "models"


def spoil(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("no model")
    return path


async def ask_health(server: Server, name: str) -> str:
    """The status of a name, or the code of the failure."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


async def list_models(server: Server) -> pb.ListModelsResponse:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        found: pb.ListModelsResponse = await ClassifierServiceStub(channel).ListModels(pb.ListModelsRequest())
        return found


def test_every_worker_has_loaded_a_model_when_the_request_for_it_is_answered(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        assert found.versions() == [{"bands": (1,)}] * 2
        write_tiny_model(folder / "hoops", 3, name="hoops")
        await found.controls[0].load("hoops")
        assert found.versions() == [{"bands": (1,), "hoops": (3,)}] * 2
        for server in found.servers:
            assert await ask_health(server, "hoops") == "SERVING"
            assert [model.name for model in (await list_models(server)).models] == ["bands", "hoops"]

    explicit(folder, scenario)


def test_a_load_takes_the_newest_version_and_the_bytes_as_they_are_now(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        write_tiny_model(folder / "bands", 2)
        assert found.versions() == [{"bands": (1,)}] * 2
        await found.controls[1].load("bands")
        assert found.versions() == [{"bands": (2,)}] * 2
        before = found.servers[0].registry.find("bands", "")
        write_tiny_model(folder / "bands", 2, gain=3)
        await found.controls[1].load("bands")
        assert found.servers[0].registry.find("bands", "") is not before

    explicit(folder, scenario)


def test_no_worker_has_a_model_when_the_request_to_unload_it_is_answered(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        await found.controls[0].unload("bands")
        assert found.versions() == [{}, {}]
        for server in found.servers:
            assert await ask_health(server, "bands") == "NOT_FOUND"
            assert await ask_health(server, "") == "SERVING"
            assert not (await list_models(server)).models
        await found.controls[1].load("bands")
        assert found.versions() == [{"bands": (1,)}] * 2

    explicit(folder, scenario)


def test_a_worker_that_comes_later_has_what_the_others_have(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        write_tiny_model(folder / "hoops", 1, name="hoops")
        write_tiny_model(folder / "bands", 2)
        await found.controls[0].load("hoops")
        await found.add_worker()
        assert found.versions() == [{"bands": (1,), "hoops": (1,)}] * 3
        await found.controls[0].unload("hoops")
        await found.controls[0].unload("bands")
        await found.add_worker()
        assert found.versions() == [{}] * 4

    explicit(folder, scenario)


@pytest.mark.parametrize("name", ["hoops", "", "../bands", "bands/1", "x" * 5000])
def test_an_unknown_model_is_not_found(folder: Path, name: str) -> None:
    async def scenario(found: Team) -> None:
        with pytest.raises(NotFound, match=r"^wanted one of the models in the folder: bands; got "):
            await found.controls[0].load(name)
        with pytest.raises(NotFound, match=r"^wanted one of the models bands; got "):
            await found.controls[0].unload(name)

    explicit(folder, scenario)


def test_a_broken_version_is_refused_with_the_reason_and_the_old_one_goes_on(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        path = spoil(folder / "bands/2/model.onnx")
        for _ in range(2):
            with pytest.raises(
                ModelRefused, match=r"^bands: version 2: the file lacks the metadata key [^;]*;"
            ) as caught:
                await found.controls[0].load("bands")
            assert str(folder) not in str(caught.value)
            assert str(caught.value).count("version 2") == 1
        assert found.versions() == [{"bands": (1,)}] * 2
        for server in found.servers:
            (refused,) = (await list_models(server)).refused_models
            assert (refused.name, refused.version) == ("bands", "2")
        path.unlink()
        await found.controls[0].load("bands")
        assert not (await list_models(found.servers[1])).refused_models

    explicit(folder, scenario)


def test_a_load_tries_again_what_was_refused_though_its_bytes_are_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: Team) -> None:
        write_tiny_model(folder / "bands", 2)
        with monkeypatch.context() as patch:
            patch.setattr("serve.inference.engine.read_model_bytes", lambda *_: (_ for _ in ()).throw(MemoryError))
            with pytest.raises(ModelRefused, match="it cannot be loaded: MemoryError"):
                await found.controls[0].load("bands")
        await found.controls[0].load("bands")
        assert found.versions() == [{"bands": (2,)}] * 2

    explicit(folder, scenario)


def test_requests_of_several_workers_at_once_are_all_answered(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        names = [f"hoops-{number}" for number in range(6)]
        for name in names:
            write_tiny_model(folder / name, 1, name=name)
        loads = [found.controls[number % 2].load(name) for number, name in enumerate(names)]
        failing = [found.controls[number % 2].load(f"none-{number}") for number in range(4)]
        outcomes = await asyncio.gather(*loads, *failing, return_exceptions=True)
        assert outcomes[:6] == [None] * 6
        assert all(isinstance(outcome, NotFound) for outcome in outcomes[6:])
        assert found.versions() == [{"bands": (1,)} | dict.fromkeys(names, (1,))] * 2

    explicit(folder, scenario)


def test_a_client_that_leaves_does_not_hold_up_the_next(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        write_tiny_model(folder / "hoops", 1, name="hoops")
        left = asyncio.create_task(found.controls[0].load("hoops"))
        await asyncio.sleep(0)
        left.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await left
        await found.controls[0].load("hoops")
        assert found.versions() == [{"bands": (1,), "hoops": (1,)}] * 2

    explicit(folder, scenario)


def test_a_worker_that_ends_before_it_has_followed_makes_the_request_fail(folder: Path) -> None:
    async def scenario(found: Team) -> None:
        await found.link(7)
        loading = asyncio.create_task(found.controls[0].load("bands"))
        await asyncio.sleep(0.2)
        assert not loading.done()
        found.decider.leave(7, has_crashed=False)
        with pytest.raises(ModelRefused, match="bands: a worker ended meanwhile"):
            await loading

    explicit(folder, scenario)


async def call(server: Server, image: bytes, stop: asyncio.Event) -> Counter[str]:
    """Call a server without a pause: how many answers came of each version; each must be that of the version."""
    answers: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = ClassifierServiceStub(channel)
        while not stop.is_set():
            reply = await stub.Classify(pb.ClassifyRequest(model="bands", image=image))
            gain = int(reply.version) / 4
            best = math.exp(gain) / (math.exp(gain) + 2)
            assert reply.classification.classes[0].probability == pytest.approx(best, abs=1e-4)
            answers[reply.version] += 1
    return answers


def test_ten_loads_cost_no_call_and_no_answer_is_of_another_version(folder: Path, png: Png) -> None:
    async def scenario(found: Team) -> None:
        stop = asyncio.Event()
        write_tiny_model(folder / "bands", 2, gain=2 / 4)
        await found.controls[0].load("bands")
        callers = [asyncio.create_task(call(server, png(0), stop)) for server in 4 * found.servers]
        for version in range(3, 13):
            await asyncio.to_thread(write_tiny_model, folder / "bands", version, version / 4)
            await found.controls[version % 2].load("bands")
            assert found.versions() == [{"bands": (version,)}] * 2
        stop.set()
        answers = sum(await asyncio.gather(*callers), Counter())
        assert set(answers) >= set(map(str, range(3, 12)))

    explicit(folder, scenario)


def test_a_stop_does_not_wait_for_a_model_that_is_still_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, free, begun = engine.load, threading.Event(), threading.Event()

    def load_slowly(*arguments: Any) -> engine.Engine:
        begun.set()
        free.wait(20)
        return load(*arguments)

    async def scenario(found: Team) -> None:
        write_tiny_model(folder / "bands", 2)
        monkeypatch.setattr(engine, "load", load_slowly)
        asking = asyncio.create_task(found.controls[0].load("bands"))
        await asyncio.to_thread(begun.wait, 20)
        begun_s = time.monotonic()
        await found.close()
        assert time.monotonic() - begun_s < 10
        asking.cancel()

    try:
        explicit(folder, scenario)
    finally:
        free.set()


@pytest.mark.parametrize("control", ["none", "poll"])
def test_clients_change_nothing_unless_control_is_explicit(folder: Path, control: str) -> None:
    async def main() -> None:
        async with team(folder, model_control=control, poll_s=60) as found:
            for change in (found.controls[0].load, found.controls[0].unload):
                with pytest.raises(ModelControlOff, match=f"with --model-control explicit; it is {control}"):
                    await change("bands")
            assert found.versions() == [{"bands": (1,)}] * 2

    asyncio.run(main())


def test_a_folder_that_is_away_when_a_load_is_asked_for_is_named_in_the_log_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(found: Team) -> None:
        shutil.move(folder, folder.with_name("away"))
        with pytest.raises(ModelRefused, match="the folder of models cannot be read"):
            await found.controls[0].load("bands")
        assert found.versions() == [{"bands": (1,)}] * 2
        assert str(folder) in caplog.text

    explicit(folder, scenario)


def test_without_control_nothing_that_happens_in_the_folder_matters(folder: Path) -> None:
    async def main() -> None:
        async with team(folder, poll_s=1) as found:
            write_tiny_model(folder / "bands", 2)
            await asyncio.sleep(2.5)
            assert found.versions() == [{"bands": (1,)}] * 2

    asyncio.run(main())


async def wait_for(found: Team, versions: dict[str, tuple[int, ...]]) -> None:
    """Until all workers have these versions."""
    while any(each != versions for each in found.versions()):
        await asyncio.sleep(0.05)


@pytest.mark.slow
def test_polling_follows_the_folder_and_survives_its_absence(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with asyncio.timeout(30), team(folder, model_control="poll", poll_s=1) as found:
            write_tiny_model(folder / "hoops", 1, name="hoops")
            await wait_for(found, {"bands": (1,), "hoops": (1,)})
            shutil.move(folder, folder.with_name("away"))
            await asyncio.sleep(2.5)
            assert found.versions() == [{"bands": (1,), "hoops": (1,)}] * 2
            shutil.move(folder.with_name("away"), folder)
            shutil.rmtree(folder / "hoops")
            await wait_for(found, {"bands": (1,)})
            while sum("every worker follows" in text for text in caplog.messages) < 2:
                await asyncio.sleep(0.05)

    asyncio.run(main())
    assert sum("keeping the models as they are" in text for text in caplog.messages) == 1
    assert [text for text in caplog.messages if text.startswith("decision")] == [
        "decision 1 on models: changing hoops",
        "decision 1 on models: every worker follows",
        "decision 2 on models: changing hoops",
        "decision 2 on models: every worker follows",
    ]


def test_a_folder_without_models_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found none"):
        Decider(ServerConfig(models=tmp_path))


def test_a_version_at_which_workers_crash_is_given_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that loads it ends, as does the one that takes its place: without an end, for all workers."""
    write_tiny_model(folder / "bands", 2)

    async def main() -> list[dict[int, str]]:
        decider = Decider(ServerConfig(models=folder, model_control="poll", poll_s=60))
        deciding = asyncio.create_task(decider.run())
        desired = []
        for number in range(MOST_CRASHES + 1):
            ours, theirs = [await Link.over(end) for end in socket.socketpair()]
            await decider.join(number, ours)
            message = await anext(theirs.receive())
            assert isinstance(message, Desired)
            desired.append({file.version: file.problem for file in message.files})
            decider.note(Loading("bands", 2), number)
            decider.leave(number, has_crashed=True)
            ours.close()
            theirs.close()
        deciding.cancel()
        return desired

    *before, after = asyncio.run(main())
    problem = f"{MOST_CRASHES} workers ended while they loaded it"
    assert before == [{2: "", 1: ""}] * MOST_CRASHES
    assert after == {2: problem, 1: ""}
    assert f"giving up bands version 2: {problem}" in caplog.text


def test_files_arrive_as_they_were_sent() -> None:
    """Names that are no texts, too: a folder's name is bytes."""
    name = b"b\xffnds".decode(errors="surrogateescape")
    file = ModelFile(name, 10**30, Path(name) / "1/model.onnx", "00")

    async def main() -> Desired:
        ours, theirs = [await Link.over(end) for end in socket.socketpair()]
        ours.send(Desired(3, [(file.name, file.version, str(file.path), file.digest, "", {"max_batch": 4})], "bands"))  # type: ignore[list-item]
        message = await anext(theirs.receive())
        ours.close()
        theirs.close()
        assert isinstance(message, Desired)
        return message

    found = asyncio.run(main())
    assert (found.number, found.retry) == (3, "bands")
    (arrived,) = found.files
    assert (arrived.name, arrived.version, Path(arrived.path), arrived.digest) == (name, 10**30, file.path, "00")
    assert arrived.serving == {"max_batch": 4}
