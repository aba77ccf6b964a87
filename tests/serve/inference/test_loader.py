"""serve.inference.loader: what may be live becomes live, the old goes on until then, and its memory comes back."""

import asyncio
import gc
import hashlib
import logging
import math
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from serve.api.inkling_v1 import describe
from serve.errors import Draining, ModelFileError
from serve.images.pool import DecodePool
from serve.inference import device, engine, runner
from serve.inference.loader import Loader
from serve.inference.registry import Refusal, Registry
from serve.inference.runner import Answer, Runner, RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.watchdog import UNWATCHED
from serve.model_file.folder import ModelFile
from serve.model_file.serving import ServingSettings
from tests.support import Png, write_tiny_model

ALL = 10**6


def read(path: Path) -> ModelFile:
    """A file in its place, with the digest that it has now."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelFile(path.parts[-3], int(path.parts[-2]), path, digest)


def write(folder: Path, name: str, version: int, gain: float = 10) -> ModelFile:
    """A sound model."""
    return read(write_tiny_model(folder / name, version, gain, name=name))


def spoil(folder: Path, name: str, version: int, file_name: str = "model.onnx") -> ModelFile:
    """A file that is no model."""
    path = folder / name / str(version) / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name} {version} {file_name}")
    return read(path)


@dataclass
class Live:
    """A live set and what changes it."""

    registry: Registry
    loader: Loader
    side_thread: ThreadPoolExecutor
    names: list[list[str]] = field(default_factory=list)
    """Those of the registry after each change."""

    def versions(self) -> dict[str, tuple[int, ...]]:
        """The live versions by name."""
        return {name: self.registry.versions(name) for name in self.registry.names}

    async def follow(self, *files: ModelFile, live: int = 1, retries: tuple[str, ...] = ()) -> list[Refusal]:
        """As the loader does."""
        return await self.loader.follow(files, live, retries)

    async def answer(self, image: bytes, name: str = "bands") -> float:
        """The probability of the best class."""
        (answer,) = await self.registry.find(name, "").classify([image])
        assert isinstance(answer, Answer)
        return max(answer.probabilities)


def run(scenario: Callable[[Live], Awaitable[None]]) -> None:
    """A scenario on a live set, which is closed in the end."""

    async def main() -> None:
        with ThreadPoolExecutor(1) as side_thread:
            registry = Registry()
            loader = Loader(
                registry,
                device.Placement("cpu", threads=1, max_batch=8, gpu_memory_bytes=0),
                limits=RunnerLimits(8, 2**24, max_queue_delay_us=0, max_image_pixels=2**22),
                cpu=CpuPolicy(1, 0),
                pool=DecodePool(side_thread, 1, 2**22, 2**22),
                watchdog=UNWATCHED,
                describe=describe,
                on_change=lambda: live.names.append(registry.names),
            )
            live = Live(registry, loader, side_thread)
            await scenario(live)
            await loader.close()
            for runner in registry.list():
                await runner.close()

    asyncio.run(main())


def expect(gain: float) -> float:
    """The probability of a band that is white, by a tiny model of this gain."""
    return math.exp(gain) / (math.exp(gain) + 2)


@pytest.mark.parametrize(("count", "live"), [(1, (3,)), (2, (3, 2)), (ALL, (3, 2, 1))])
def test_the_newest_versions_are_live_as_many_as_may_be(tmp_path: Path, count: int, live: tuple[int, ...]) -> None:
    async def scenario(state: Live) -> None:
        files = [write(tmp_path, "bands", version) for version in (3, 2, 1)]
        assert await state.follow(*files, live=count) == []
        assert state.versions() == {"bands": live}

    run(scenario)


def test_a_new_version_takes_the_place_of_the_old_one_without_a_moment_of_none(tmp_path: Path, png: Png) -> None:
    async def scenario(state: Live) -> None:
        first, second = write(tmp_path, "bands", 1, gain=1), write(tmp_path, "bands", 2, gain=2)
        await state.follow(first)
        assert await state.answer(png(0)) == pytest.approx(expect(1), abs=1e-5)
        await state.follow(second, first)
        assert state.versions() == {"bands": (2,)}
        assert await state.answer(png(0)) == pytest.approx(expect(2), abs=1e-5)
        assert all("bands" in names for names in state.names)

    run(scenario)


def test_other_bytes_of_a_version_take_its_place_and_the_same_bytes_are_not_loaded_again(
    tmp_path: Path, png: Png
) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        first = state.registry.find("bands", "")
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        assert state.registry.find("bands", "") is first
        await state.follow(write(tmp_path, "bands", 1, gain=3))
        assert await state.answer(png(0)) == pytest.approx(expect(3), abs=1e-5)

    run(scenario)


def test_models_and_versions_that_are_gone_are_unloaded(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        bands = [write(tmp_path, "bands", version) for version in (2, 1)]
        await state.follow(*bands, write(tmp_path, "hoops", 1), live=ALL)
        await state.follow(bands[1], live=ALL)
        assert state.versions() == {"bands": (1,)}
        await state.follow(live=ALL)
        assert state.versions() == {}

    run(scenario)


def test_an_older_version_is_live_in_place_of_one_that_is_refused(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        files = [spoil(tmp_path, "bands", 3), write(tmp_path, "bands", 2), write(tmp_path, "bands", 1)]
        (refusal,) = await state.follow(*files)
        assert (refusal.file.version, state.versions()) == (3, {"bands": (2,)})
        assert state.registry.refusals == (refusal,)

    run(scenario)


def test_an_old_version_goes_on_where_a_refused_one_took_its_place_on_disk(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 2))
        await state.follow(spoil(tmp_path, "bands", 3))
        assert state.versions() == {"bands": (2,)}
        await state.follow(write(tmp_path, "bands", 4))
        assert (state.versions(), state.registry.refusals) == ({"bands": (4,)}, ())

    run(scenario)


def test_old_bytes_go_on_where_the_new_ones_of_a_version_are_refused(tmp_path: Path, png: Png) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        (refusal,) = await state.follow(spoil(tmp_path, "bands", 1))
        assert state.registry.refusals == (refusal,)
        assert await state.answer(png(0)) == pytest.approx(expect(1), abs=1e-5)
        assert await state.follow(write(tmp_path, "bands", 1, gain=2)) == []
        assert (await state.answer(png(0)), state.registry.refusals) == (pytest.approx(expect(2), abs=1e-5), ())

    run(scenario)


def test_a_version_whose_preferred_file_is_refused_is_served_by_the_plain_one(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        plain, variant = write(tmp_path, "bands", 1), spoil(tmp_path, "bands", 1, "model.int8.onnx")
        assert await state.follow(variant, plain) == []
        (refusal,) = state.registry.refusals
        assert (state.versions(), refusal.file, refusal.reason[:17]) == ({"bands": (1,)}, variant, "model.int8.onnx: ")

    run(scenario)


def test_a_refused_file_is_tried_again_when_somebody_asks_or_its_bytes_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(state: Live) -> None:
        file = spoil(tmp_path, "bands", 1)
        tries = []
        for retries in ((), (), ("hoops",), ("bands",)):
            await state.follow(file, retries=retries)
            tries.append(sum("refused bands" in text for text in caplog.messages))
        assert tries == [1, 1, 1, 2]
        await state.follow(write(tmp_path, "bands", 1))
        assert state.versions() == {"bands": (1,)}

    run(scenario)


def test_bytes_that_were_not_decided_on_are_not_served(tmp_path: Path, png: Png) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        decided = write(tmp_path, "bands", 1, gain=2)
        write(tmp_path, "bands", 1, gain=3)
        (refusal,) = await state.follow(decided)
        assert refusal.reason.startswith(f"wanted the bytes that the server decided on, SHA-256 {decided.digest[:12]}")
        assert await state.answer(png(0)) == pytest.approx(expect(1), abs=1e-5)

    run(scenario)


def test_a_file_with_a_problem_stays_where_it_is_live_and_is_loaded_nowhere(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        older, newer = write(tmp_path, "bands", 1), write(tmp_path, "bands", 2)
        given_up = replace(newer, problem="two workers ended")
        await state.follow(newer, older)
        assert await state.follow(given_up, older) == []
        assert state.versions() == {"bands": (2,)}
        await state.follow()
        (refusal,) = await state.follow(given_up, older)
        assert (refusal.reason, state.versions()) == ("two workers ended", {"bands": (1,)})

    run(scenario)


def test_a_model_that_calls_itself_otherwise_is_served_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(state: Live) -> None:
        path = write_tiny_model(tmp_path / "bands", 1, name="hoops\n")
        await state.follow(read(path))
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert record.getMessage() == (
            f"{path} is served as bands, and calls itself hoops\\n; is it in another model's folder?"
        )
        assert state.versions() == {"bands": (1,)}

    run(scenario)


def test_a_call_that_found_the_old_model_is_answered_by_it_though_its_image_is_still_decoded(
    tmp_path: Path, png: Png
) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        free = threading.Event()
        state.side_thread.submit(free.wait)
        asked = asyncio.create_task(state.answer(png(0, (900, 900))))
        await asyncio.sleep(0)
        following = asyncio.create_task(state.follow(write(tmp_path, "bands", 2, gain=2)))
        while state.versions() != {"bands": (2,)}:
            await asyncio.sleep(0.001)
        assert await state.answer(png(0)) == pytest.approx(expect(2), abs=1e-5)
        assert not asked.done()
        free.set()
        assert await asked == pytest.approx(expect(1), abs=0.02)  # made smaller, its band has soft edges
        await following

    run(scenario)


def test_a_request_of_a_stream_that_waits_for_room_is_answered_by_the_model_that_it_found(
    tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nothing else has a place at the moment between one request and the next."""
    monkeypatch.setattr(runner, "DRAIN_LOOK_S", 0.0)

    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1, gain=1))
        old = state.registry.find("bands", "")
        free = threading.Event()
        state.side_thread.submit(free.wait)
        filling = asyncio.create_task(old.classify([png(0, (900, 900))] * 8))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(old.classify([png(0)], admitted=asyncio.Event())) for _ in range(3)]
        await asyncio.sleep(0)
        following = asyncio.create_task(state.follow(write(tmp_path, "bands", 2, gain=2)))
        while state.versions() != {"bands": (2,)}:
            await asyncio.sleep(0.001)
        assert not any(each.done() for each in (filling, *waiting))
        free.set()
        for (answer,) in await asyncio.gather(*waiting):
            assert isinstance(answer, Answer)
            assert max(answer.probabilities) == pytest.approx(expect(1), abs=1e-5)
        assert len(await filling) == 8
        await following

    run(scenario)


def test_a_runner_that_is_closed_takes_nothing_new(tmp_path: Path, png: Png) -> None:
    async def scenario(state: Live) -> None:
        await state.follow(write(tmp_path, "bands", 1))
        old = state.registry.find("bands", "")
        await state.follow()
        with pytest.raises(Draining):
            await old.classify([png(0)])

    run(scenario)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_was_replaced_is_gone_without_the_garbage_collector(
    tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Objects of the start are out of its reach, and a model's memory must not wait for it. For both batchers."""
    made: list[weakref.ref[object]] = []

    def note(each: Runner | engine.Engine) -> None:
        made.append(weakref.ref(each))

    async def scenario(state: Live) -> None:
        state.loader._placement = device.Placement("cpu", threads, max_batch=8, gpu_memory_bytes=0)
        await state.follow(write(tmp_path, "bands", 1))
        note(state.registry.find("bands", ""))
        note(state.registry.find("bands", "")._engine)
        await state.answer(png(0))
        gc.collect()
        gc.disable()
        try:
            await state.follow(write(tmp_path, "bands", 2))
            await asyncio.sleep(0.05)
            assert [reference() for reference in made] == [None, None]
        finally:
            gc.enable()

    run(scenario)


def test_a_load_that_fails_changes_nothing(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        with pytest.raises(ModelFileError):
            await state.loader.load(spoil(tmp_path, "bands", 1))
        assert (state.versions(), state.names) == ({}, [])

    run(scenario)


def test_the_settings_of_a_version_hold_for_its_runner_alone(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        own = ServingSettings(max_batch=2, max_pending=3, max_queue_delay_us=4)
        first, second = write(tmp_path, "bands", 1), replace(write(tmp_path, "bands", 2), serving=own)
        await state.follow(second, first, live=2)
        runners = {runner.version: runner for runner in state.registry.list()}
        assert (runners[2].max_batch, runners[1].max_batch) == (2, 8)
        assert runners[1].limits == RunnerLimits(8, 2**24, max_queue_delay_us=0, max_image_pixels=2**22)
        assert runners[2].limits == RunnerLimits(3, 2**24, max_queue_delay_us=4, max_image_pixels=2**22)

    run(scenario)


def test_other_settings_load_a_version_anew_and_wrong_ones_leave_it_as_it_is(tmp_path: Path) -> None:
    async def scenario(state: Live) -> None:
        file = write(tmp_path, "bands", 1)
        await state.follow(file)
        assert await state.follow(replace(file, serving=ServingSettings(max_batch=2))) == []
        assert state.registry.find("bands", "").max_batch == 2
        (refusal,) = await state.follow(replace(file, serving=None, problem="serving.toml: wrong"))
        assert refusal.reason == "serving.toml: wrong"
        assert state.registry.find("bands", "").max_batch == 2

    run(scenario)
