"""serve.inference.loader: what may be live becomes live, the old goes on until then, and its memory comes back."""

import asyncio
import gc
import hashlib
import math
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from serve.api.inkling_v1 import describe
from serve.errors import Draining
from serve.images.pool import DecodePool
from serve.inference import device, engine, runner
from serve.inference.answer import Answer
from serve.inference.loader import Loader
from serve.inference.registry import Refusal, Registry
from serve.inference.runner import Runner, RunnerLimits
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
