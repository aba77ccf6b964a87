"""One loaded model, and the way of a request through it.

Enters: encoded images or the pixels of ready ones, from the event loop. Leaves: an `Answer`, or the reason why there is
none, per image.
Does not know: gRPC, messages, languages, other models.

    classify -> admission -> (large images: the decode pool) -> batcher -> reader -> engine
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from serve.errors import Expired, RequestError
from serve.images.decode import find_detail, is_large
from serve.images.pixels import Pixels
from serve.images.policies.find import find_policy
from serve.images.pool import DecodePool
from serve.images.reader import ImageReader, Prepared
from serve.inference.admission import Admission
from serve.inference.answer import Answer, list_rows, list_stages
from serve.inference.batching.batcher import Batcher
from serve.inference.batching.loop_batcher import LoopBatcher
from serve.inference.batching.thread_batcher import ThreadBatcher
from serve.inference.engine import Engine
from serve.machine.cpu_policy import CpuPolicy
from serve.telemetry.calls import ends_by_deadline
from serve.telemetry.counts import ModelCounts
from serve.telemetry.tracing import find_current_span

Images: TypeAlias = Sequence[bytes | Pixels]
"""Image files, and pixels that are the net's input already."""

DRAIN_LOOK_S = 0.01
"""Seconds between two looks at whether everything that was accepted has its answer."""
LONGEST_LOOP_RUN_S = 0.010
"""CPU seconds. A full batch that takes longer runs in a thread and not on the event loop."""


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
        self,
        name: str,
        version: int,
        engine: Engine,
        *,
        limits: RunnerLimits,
        cpu: CpuPolicy,
        pool: DecodePool,
        counts: ModelCounts | None = None,
    ) -> None:
        """`pool` decodes large images, so that they hold up no batch."""
        self.name = name
        self.version = version
        self.identity = name, str(version)
        self._counts = counts or ModelCounts(*self.identity)
        self.spec = engine.spec
        self.device = engine.placement.device
        self.max_batch = engine.max_batch
        self.limits = limits
        self._engine = engine
        policy, detail = find_policy(engine.spec.prepare, engine.spec.input), find_detail(engine.spec.input.shape)
        self._reader = ImageReader(policy, limits.max_image_pixels, detail)
        self._input_pixels = engine.spec.input.shape[0] * engine.spec.input.shape[1]
        self.admission = Admission(limits.max_pending, limits.max_pending_bytes)
        self._pool = pool
        self._cpu = cpu
        self._is_quick = engine.full_batch_s <= LONGEST_LOOP_RUN_S
        self._is_quick_single = engine.one_image_s <= LONGEST_LOOP_RUN_S
        self._batcher = self._make_batcher(limits.max_queue_delay_us)

    async def classify(
        self,
        images: Images,
        deadline_s: float | None = None,
        client: Callable[[], str] = str,
        admitted: asyncio.Event | None = None,
        *,
        explains: bool = False,
    ) -> list[Answer | Exception]:
        """Answer each image, or say in its place what was wrong with it.

        With `explains` the pictures on the way are kept, and every image is prepared aside as a large one is.
        `deadline_s` is on the clock of `time.monotonic`; `client` names who sent the images, for large ones take turns
        by client. Raises Overloaded at once if there is no room, Expired if the deadline passed first, Draining while
        stopping. With `admitted` it waits for room instead, and sets the event when it has some.
        """
        size = sum(len(image) if isinstance(image, bytes) else image.nbytes for image in images)
        if admitted is None:
            place = self.admission.admit(len(images), size)
        else:
            place = await self.admission.admit_in_turn(len(images), size, deadline_s)
            admitted.set()
        with place:
            since_ns = time.perf_counter_ns()
            waiting = [
                _Waiting(image if isinstance(image, bytes) else Prepared(image, 0, 0), since_ns) for image in images
            ]
            large = {
                index: image
                for index, image in enumerate(images)
                if isinstance(image, bytes) and (explains or is_large(image, self._input_pixels))
            }
            if large:
                reader = self._reader.keeping_steps() if explains else self._reader
                reading = self._pool.read_all(reader, list(large.values()), client(), waits=admitted is not None)
                try:
                    async with asyncio.timeout(None if deadline_s is None else deadline_s - time.monotonic()):
                        prepared = await reading
                except (asyncio.CancelledError, TimeoutError) as left:
                    self._counts.note_never_run(len(images), ends_by_deadline(deadline_s, since_ns))
                    if isinstance(left, TimeoutError):
                        raise Expired("the call's deadline passed before its images were decoded") from None
                    raise
                for index, each in zip(large, prepared, strict=True):
                    waiting[index] = _after_aside(each, since_ns)
            ready_ns = time.perf_counter_ns() if large else since_ns
            done = self._batcher.submit(waiting, deadline_s)
            if done.done():  # it was run at once, as a single in-flight request is
                self._cpu.busy_poll.note_single(since_ns)
            answers = await done
            if span := find_current_span():
                came_ns = [each.since_ns for each in waiting]
                span.add_stages(list_stages(came_ns, answers, since_ns, ready_ns))
            return answers

    async def classify_together(
        self,
        images: Images,
        deadline_s: float | None = None,
        client: Callable[[], str] = str,
        admitted: asyncio.Event | None = None,
    ) -> list[Answer]:
        """As `classify`, but raise what was wrong with the first bad image, its index named."""
        outcomes = await self.classify(images, deadline_s, client, admitted)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, RequestError):
                raise type(outcome)(f"image {index}: {outcome}")
            if isinstance(outcome, Exception):
                raise outcome
        return cast("list[Answer]", outcomes)

    async def close(self) -> None:
        """Finish what was accepted, what is still decoded or waits for room included, then stop."""
        while not self.admission.is_idle:
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
            return LoopBatcher(self._run, engine.max_batch, on_never_run=self._counts.note_never_run)
        return ThreadBatcher(
            self._run,
            engine.max_batch,
            max_queue_delay_us,
            has_one_core and self._is_quick_single,
            on_never_run=self._counts.note_never_run,
        )

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
        outputs = self._engine.run(pixels, spread=spread)
        inference_us = (time.perf_counter_ns() - run_ns) // 1000
        rows = list_rows(outputs)
        answers: list[Answer | Exception] = []
        queues_us = []
        for waiting, outcome in zip(batch, prepared, strict=True):
            if isinstance(outcome, Exception):
                answers.append(outcome)
                continue
            values, ranking, is_finite, familiarity, is_share = next(rows)
            queue_us = (begun_ns - waiting.since_ns) // 1000
            queues_us.append(queue_us)
            if is_finite and is_share:
                answers.append(Answer(values, ranking, outcome, queue_us, inference_us, len(good), run_ns, familiarity))
                continue
            problem = f"the familiarity {familiarity}" if is_finite else "probabilities that are not finite"
            answers.append(ArithmeticError(f"{self.name} gave {problem}"))
        self._counts.note_batch(
            queues_us, [image.decode_us for image in good], [image.prepare_us for image in good], inference_us
        )
        return answers


def _after_aside(prepared: Prepared | Exception, since_ns: int) -> _Waiting:
    """An image from the pool; its wait for a thread counts as queue time."""
    work_us = prepared.decode_us + prepared.prepare_us if isinstance(prepared, Prepared) else 0
    return _Waiting(prepared, since_ns + 1000 * work_us)
