"""serve.process.control: without explicit control, in a crash, and beside callers while models are loaded."""

import asyncio
import logging
import math
import shutil
import socket
from collections import Counter
from pathlib import Path

import grpc
import pytest

from serve.config import ServerConfig
from serve.errors import ConfigError, ModelControlOff
from serve.model_file.folder import ModelFile
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from serve.process.control.decide import MOST_CRASHES, Decider
from serve.process.link import Desired, Link, Loading
from serve.process.server import Server
from tests.serve.process.control.team import Team, explicit, team
from tests.support import Png, write_tiny_model


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


@pytest.mark.parametrize("control", ["none", "poll"])
def test_clients_change_nothing_unless_control_is_explicit(folder: Path, control: str) -> None:
    async def main() -> None:
        async with team(folder, model_control=control, poll_s=60) as found:
            for change in (found.controls[0].load, found.controls[0].unload):
                with pytest.raises(ModelControlOff, match=f"with --model-control explicit; it is {control}"):
                    await change("bands")
            assert found.versions() == [{"bands": (1,)}] * 2

    asyncio.run(main())


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
