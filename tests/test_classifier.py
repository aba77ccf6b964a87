"""serve.classifier: where a model's batches are run."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import RunningServer

from serve import classifier, engine
from serve.admission import Admission
from serve.batcher import Batcher
from serve.classifier import Classifier
from serve.loop_batcher import LoopBatcher
from serve.thread_batcher import ThreadBatcher


async def make_batcher(path: Path, threads: int, max_queue_delay_us: int = 0) -> type[Batcher]:
    """The kind of batcher that a warmed-up classifier of a model file has."""
    loaded = engine.load(path, engine.Placement("cpu", threads=threads, max_batch=8, gpu_memory_bytes=0))
    loaded.warm_up()
    with ThreadPoolExecutor(1) as side_thread:
        made = Classifier(
            "bands",
            1,
            loaded,
            admission=Admission(8, 2**20),
            side_thread=side_thread,
            max_queue_delay_us=max_queue_delay_us,
            max_image_pixels=2**20,
        )
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
    monkeypatch.setattr(classifier, "MOST_LOOP_RUN_S", 0.0)  # CPU time is never less
    assert asyncio.run(make_batcher(bands, threads=1)) is ThreadBatcher


@pytest.mark.parametrize(("one_image_s", "at_once"), [(0.001, True), (1.0, False)])
def test_a_lone_image_of_a_long_net_is_run_at_once_where_one_is_short(
    bands: Path, monkeypatch: pytest.MonkeyPatch, one_image_s: float, at_once: bool
) -> None:
    monkeypatch.setattr(engine.Engine, "_measure", lambda self, size: one_image_s if size == 1 else 1.0)
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        classifier, "ThreadBatcher", lambda *settings: made.append(settings) or ThreadBatcher(*settings)
    )
    assert asyncio.run(make_batcher(bands, threads=1)) is ThreadBatcher
    assert made[0][-1] is at_once


def test_the_servers_of_the_other_tests_batch_in_both_ways(server: RunningServer) -> None:
    """Or they would test one way twice."""
    for each in server.server.repository.list():
        wanted = LoopBatcher if each._engine.placement.threads == 1 else ThreadBatcher
        assert type(each._batcher) is wanted
