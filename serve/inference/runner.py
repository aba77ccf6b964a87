"""One loaded model, and the way of a request through it.

Enters: encoded images, from the event loop. Leaves: an `Answer`, or the reason why there is none, per image.
Does not know: gRPC, messages, languages, other models.

    classify -> admission -> (large images: the decode pool) -> batcher -> reader -> engine
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from serve.images.decode import is_large
from serve.images.policies.find import find_policy
from serve.images.pool import DecodePool
from serve.images.reader import ImageReader, Prepared
from serve.inference.admission import Admission
from serve.inference.batcher import Batcher
from serve.inference.engine import Engine
from serve.inference.loop_batcher import LoopBatcher
from serve.inference.thread_batcher import ThreadBatcher
from serve.machine.cpu_policy import CpuPolicy
from serve.model_file.spec import OUTPUT

DRAIN_LOOK_S = 0.01
"""Seconds between two looks at whether everything that was accepted has its answer."""
LONGEST_LOOP_RUN_S = 0.010
"""CPU seconds. A full batch that takes longer runs in a thread and not on the event loop."""


class Answer(NamedTuple):
    """What the model says about one image, and where the time went. A tuple: it is made for every image."""

    probabilities: list[float]
    """By class index; they sum to 1."""
    ranking: list[int]
    """Class indices, most probable first."""
    image: Prepared
    queue_us: int
    inference_us: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """The bounds of one model's work."""

    max_pending: int
    """Images that wait or run."""
    max_pending_bytes: int
    """Bytes of their files."""
    max_queue_delay_us: int
    """Microseconds that a batch waits to fill once its first image is there; 0 never waits."""
    max_image_pixels: int
    """Pixels of one image."""


class _Waiting(NamedTuple):
    image: bytes | Prepared | Exception
    since_ns: int
    """When it came; for an image that was prepared aside, later by the time that its preparation took."""


class Runner:
    """A model that answers. Made on the event loop whose calls it serves."""

    def __init__(
        self, name: str, version: int, engine: Engine, *, limits: RunnerLimits, cpu: CpuPolicy, pool: DecodePool
    ) -> None:
        """`pool` decodes large images, so that they hold up no batch."""
        self.name = name
        self.version = version
        self.spec = engine.spec
        self.device = engine.placement.device
        self._engine = engine
        self._reader = ImageReader(find_policy(engine.spec.prepare, engine.spec.input), limits.max_image_pixels)
        self.admission = Admission(limits.max_pending, limits.max_pending_bytes)
        self._pool = pool
        self._cpu = cpu
        self._is_quick = engine.full_batch_s <= LONGEST_LOOP_RUN_S
        self._is_quick_single = engine.one_image_s <= LONGEST_LOOP_RUN_S
        self._batcher = self._make_batcher(limits.max_queue_delay_us)

    async def classify(
        self, images: Sequence[bytes], deadline_s: float | None = None, client: Callable[[], str] = str
    ) -> list[Answer | Exception]:
        """Answer each image, or say in its place what was wrong with it.

        `deadline_s` is on the clock of `time.monotonic`; `client` names who sent the images, for large ones take turns
        by client. Raises Overloaded at once if there is no room, Expired if the deadline passed first, Draining while
        stopping.
        """
        with self.admission.admit(len(images), sum(map(len, images))):
            since_ns = time.perf_counter_ns()
            waiting = [_Waiting(image, since_ns) for image in images]
            large = [index for index, image in enumerate(images) if is_large(image)]
            if large:
                prepared = await self._pool.read_all(self._reader, [images[index] for index in large], client())
                for index, each in zip(large, prepared, strict=True):
                    waiting[index] = _after_aside(each, since_ns)
            answers = self._batcher.submit(waiting, deadline_s)
            if answers.done():  # it was run at once, as a single in-flight request is
                self._cpu.busy_poll.note_single(since_ns)
            return await answers

    async def close(self) -> None:
        """Finish what was accepted, images that are still being decoded included, then stop."""
        while self.admission.images:
            await asyncio.sleep(DRAIN_LOOK_S)
        await self._batcher.close()

    def release(self) -> None:
        """Let go of the model's memory, after `close`. In any thread: it takes milliseconds."""
        self._engine.close()

    def _make_batcher(self, max_queue_delay_us: int) -> Batcher[_Waiting, Answer | Exception]:
        """On the event loop if runs are short and no other core could make them; else with a thread."""
        engine, placement = self._engine, self._engine.placement
        has_one_core = placement.device == "cpu" and placement.threads == 1 and not max_queue_delay_us
        if has_one_core and self._is_quick:
            return LoopBatcher(self._run, engine.max_batch)
        return ThreadBatcher(self._run, engine.max_batch, max_queue_delay_us, has_one_core and self._is_quick_single)

    def _run(self, batch: list[_Waiting]) -> list[Answer | Exception]:
        """In the batcher's thread: an answer for each image, or what was wrong with it."""
        begun_ns = time.perf_counter_ns()
        if len(batch) == 1 and self._is_quick_single:
            self._cpu.run_single()
            return self._answer(batch, begun_ns, spread=True)
        with self._cpu.run(len(batch), spreads_anyway=self._is_quick) as spread:
            return self._answer(batch, begun_ns, spread)

    def _answer(self, batch: list[_Waiting], begun_ns: int, spread: bool) -> list[Answer | Exception]:
        """Prepare all, run the good ones together, and put every answer in its place."""
        prepared = self._reader.read_all([waiting.image for waiting in batch])
        good = [image for image in prepared if isinstance(image, Prepared)]
        if not good:
            return [error for error in prepared if isinstance(error, Exception)]
        pixels = np.empty((len(good), *self.spec.input.shape), np.uint8)
        for index, image in enumerate(good):
            pixels[index] = image.pixels
        run_ns = time.perf_counter_ns()
        probabilities = self._engine.run(pixels, spread=spread)[OUTPUT]
        inference_us = (time.perf_counter_ns() - run_ns) // 1000
        rankings = (-probabilities).argsort(axis=1, kind="stable").tolist()
        # As Python lists at once: one conversion a batch, not one a number.
        is_finite = np.asarray(np.isfinite(probabilities).all(axis=1)).tolist()
        rows = iter(zip(probabilities.tolist(), rankings, is_finite, strict=True))
        answers: list[Answer | Exception] = []
        for waiting, outcome in zip(batch, prepared, strict=True):
            if isinstance(outcome, Exception):
                answers.append(outcome)
                continue
            values, ranking, is_sound = next(rows)
            queue_us = (begun_ns - waiting.since_ns) // 1000
            answer = Answer(values, ranking, outcome, queue_us, inference_us, len(good))
            answers.append(
                answer if is_sound else ArithmeticError(f"{self.name} gave probabilities that are not finite")
            )
        return answers


def _after_aside(prepared: Prepared | Exception, since_ns: int) -> _Waiting:
    """An image from the pool; its wait for a thread counts as queue time."""
    work_us = prepared.decode_us + prepared.prepare_us if isinstance(prepared, Prepared) else 0
    return _Waiting(prepared, since_ns + 1000 * work_us)
