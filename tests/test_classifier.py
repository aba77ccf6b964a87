"""serve.classifier: where a model's batches are run."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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
