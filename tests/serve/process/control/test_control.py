"""serve.process.control: a request to load or unload is answered when one has decided and two have followed."""

import asyncio
import contextlib
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.errors import ModelRefused, NotFound
from serve.inference import engine
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from serve.process.server import Server
from tests.serve.process.control.team import Team, explicit
from tests.support import write_tiny_model


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
