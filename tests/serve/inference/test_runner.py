"""serve.inference.runner: where a model's batches are run, and what becomes of images that are decoded beside them."""

import asyncio
import gc
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.errors import Expired
from serve.images.pool import DecodePool
from serve.inference import device, engine, runner
from serve.inference.batching.batcher import Batcher
from serve.inference.batching.loop_batcher import LoopBatcher
from serve.inference.batching.thread_batcher import ThreadBatcher
from serve.inference.runner import Runner, RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.idle_cores import SLOT_BYTES, IdleCores
from tests.support import Png, RunningServer


def make_runner(
    path: Path,
    threads: int,
    side_thread: Executor,
    max_queue_delay_us: int = 0,
    *,
    idle_cores: IdleCores | None = None,
) -> Runner:
    """A runner of a model file, warmed up, that takes up to 8 images."""
    loaded = engine.load(path, device.Placement("cpu", threads, max_batch=8, gpu_memory_bytes=0, most_threads=2))
    loaded.warm_up()
    limits = RunnerLimits(8, 2**20, max_queue_delay_us, max_image_pixels=2**20)
    cpu = CpuPolicy(2, 0, idle_cores or IdleCores(2))
    return Runner("bands", 1, loaded, limits=limits, cpu=cpu, pool=DecodePool(side_thread, 1, 2**22, 2**20))


async def make_batcher(path: Path, threads: int, max_queue_delay_us: int = 0) -> type[Batcher]:
    """The kind of batcher that a warmed-up runner of a model file has."""
    with ThreadPoolExecutor(1) as side_thread:
        made = make_runner(path, threads, side_thread, max_queue_delay_us)
        await made.close()
        return type(made._batcher)


@pytest.fixture
def bands(repository_folder: Path) -> Path:
    return repository_folder / "bands/1/model.onnx"


def test_short_runs_with_one_core_are_run_on_the_event_loop(bands: Path) -> None:
    assert asyncio.run(make_batcher(bands, threads=1)) is LoopBatcher


def test_with_cores_to_spare_runs_have_a_thread(bands: Path) -> None:
    assert asyncio.run(make_batcher(bands, threads=2)) is ThreadBatcher


def test_a_queue_delay_is_kept_by_a_thread(bands: Path) -> None:
    assert asyncio.run(make_batcher(bands, threads=1, max_queue_delay_us=100)) is ThreadBatcher


def test_runs_that_are_measured_as_long_have_a_thread(bands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONGEST_LOOP_RUN_S", 0.0)  # CPU time is never less
    assert asyncio.run(make_batcher(bands, threads=1)) is ThreadBatcher


@pytest.mark.parametrize(("one_image_s", "at_once"), [(0.001, True), (1.0, False)])
def test_a_lone_image_of_a_long_net_is_run_at_once_where_one_is_short(
    bands: Path, monkeypatch: pytest.MonkeyPatch, one_image_s: float, at_once: bool
) -> None:
    monkeypatch.setattr(engine.Engine, "_measure", lambda self, size, options=None: one_image_s if size == 1 else 1.0)
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        runner, "ThreadBatcher", lambda *settings, **others: made.append(settings) or ThreadBatcher(*settings, **others)
    )
    assert asyncio.run(make_batcher(bands, threads=1)) is ThreadBatcher
    assert made[0][-1] is at_once


def test_the_servers_of_the_other_tests_batch_in_both_ways(server: RunningServer) -> None:
    """Or they would test one way twice."""
    for each in server.server.registry.list():
        wanted = LoopBatcher if each._engine.placement.threads == 1 else ThreadBatcher
        assert type(each._batcher) is wanted


async def note_spreads(path: Path, monkeypatch: pytest.MonkeyPatch, images: list[bytes], busy: int) -> list[bool]:
    """Whether each run of some images in one call was spread, beside a worker that has taken `busy` cores."""
    spreads: list[bool] = []
    run = engine.Engine.run

    def note(self: engine.Engine, *arguments: object, spread: bool = True) -> engine.Outputs:
        spreads.append(spread)
        return run(self, *arguments, spread=spread)

    memory = bytearray(2 * SLOT_BYTES)
    idle_cores = IdleCores(2, memory, number=0)
    taken = memoryview(memory).cast("I")
    taken[1] = busy
    with ThreadPoolExecutor(1) as side_thread:
        made = make_runner(path, 1, side_thread, idle_cores=idle_cores)
        monkeypatch.setattr(engine.Engine, "run", note)
        answers = await made.classify(images)
        await made.close()
    assert all(isinstance(answer, runner.Answer) for answer in answers)
    assert list(taken) == [0, busy], "what was taken is given back"
    return spreads


@pytest.mark.parametrize("image_count", [1, 2])
@pytest.mark.parametrize("busy", [0, 1, 2])
def test_a_long_run_spreads_only_where_others_leave_a_core_idle(
    bands: Path, png: Png, monkeypatch: pytest.MonkeyPatch, busy: int, image_count: int
) -> None:
    monkeypatch.setattr(runner, "LONGEST_LOOP_RUN_S", 0.0)
    assert asyncio.run(note_spreads(bands, monkeypatch, [png(0)] * image_count, busy)) == [busy == 0]


@pytest.mark.parametrize("image_count", [1, 2])
def test_a_short_run_spreads_anyway(bands: Path, png: Png, monkeypatch: pytest.MonkeyPatch, image_count: int) -> None:
    monkeypatch.setattr(runner, "LONGEST_LOOP_RUN_S", 1.0)
    assert asyncio.run(note_spreads(bands, monkeypatch, [png(0)] * image_count, busy=2)) == [True]


async def rank(path: Path, calls: list[list[bytes]]) -> list[list[list[int]]]:
    """The rankings of the images of each call, one call after the other."""
    with ThreadPoolExecutor(1) as side_thread:
        made = make_runner(path, 1, side_thread)
        answers = [await made.classify(images) for images in calls]
        await made.close()
    return [[each.ranking for each in call if isinstance(each, runner.Answer)] for call in answers]


def test_equally_probable_classes_keep_their_order_in_any_batch(bands: Path, png: Png) -> None:
    """One band is bright, and the two others are as dark."""
    images = [png(0), png(1), png(2)]
    together, *alone = asyncio.run(rank(bands, [images, *([each] for each in images)]))
    assert together == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]
    assert [ranking for (ranking,) in alone] == together


async def leave_while_waiting(path: Path, image: bytes, callers: int) -> tuple[int, int]:
    """Callers with one large image leave while the side thread is busy: references to it before they came and after."""
    free = threading.Event()
    with ThreadPoolExecutor(1) as side_thread:
        made = make_runner(path, 1, side_thread)
        admission = made.admission
        side_thread.submit(free.wait)
        before = sys.getrefcount(image)
        try:
            calls = [asyncio.create_task(made.classify((image,))) for _ in range(callers)]
            await asyncio.sleep(0)
            assert admission.image_bytes == callers * len(image)
            assert all(call.cancel() for call in calls)
            await asyncio.wait(calls)
            calls.clear()  # their errors know the frames that they left
            gc.collect()
            assert admission.image_bytes == 0
            return before, sys.getrefcount(image)
        finally:
            free.set()
            await made.close()


def test_a_large_image_whose_caller_left_is_let_go_before_its_turn(bands: Path) -> None:
    """With its place: or what waits for the side thread could be many times --max-pending-bytes."""
    image = bytes(range(256)) * 256
    before, after = asyncio.run(leave_while_waiting(bands, image, callers=5))
    assert after == before


async def answer_beside(path: Path, image: bytes, busy_s: float) -> tuple[runner.Answer, int]:
    """The answer for a large image that comes while the side thread is busy, and the microseconds until it."""
    with ThreadPoolExecutor(1) as side_thread:
        made = make_runner(path, 1, side_thread)
        side_thread.submit(time.sleep, busy_s)
        begun_ns = time.perf_counter_ns()
        (answer,) = await made.classify((image,))
        taken_us = (time.perf_counter_ns() - begun_ns) // 1000
        await made.close()
    assert isinstance(answer, runner.Answer)
    return answer, taken_us


def test_a_large_image_waits_for_the_side_thread_in_its_queue_time(bands: Path, png: Png) -> None:
    answer, taken_us = asyncio.run(answer_beside(bands, png(1, (900, 900)), busy_s=0.1))
    assert answer.queue_us > 90_000
    parts = answer.queue_us + answer.image.decode_us + answer.image.prepare_us + answer.inference_us
    assert parts <= taken_us + 5


async def classify_before(path: Path, image: bytes, timeout_s: float) -> float:
    """The seconds until the runner refuses a large image that would wait longer than it may."""
    with ThreadPoolExecutor(1) as side_thread:
        made, free = make_runner(path, 1, side_thread), threading.Event()
        side_thread.submit(free.wait)
        begun_s = time.monotonic()
        try:
            with pytest.raises(Expired, match="deadline passed before its images were decoded"):
                await made.classify((image,), begun_s + timeout_s)
            return time.monotonic() - begun_s
        finally:
            free.set()
            await made.close()


def test_a_large_image_waits_to_be_decoded_no_longer_than_its_deadline(bands: Path, png: Png) -> None:
    """The side thread stays busy until the call has ended, so nothing but the deadline ends it."""
    assert asyncio.run(classify_before(bands, png(1, (900, 900)), timeout_s=0.05)) >= 0.05
