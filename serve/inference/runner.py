"""One loaded model and everything that a request meets on its way through it.

Enters: encoded images, from the event loop. Leaves: an `Answer` or the reason why there is none, per image.
Does not know: gRPC, messages, languages, other models.

    classify -> admission -> (large images: decoded in a side thread) -> batcher -> image_reader -> engine
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from serve.images.decode import is_large
from serve.images.policies.find import find_policy
from serve.images.reader import ImageReader, Prepared
from serve.inference.admission import Admission
from serve.inference.batcher import Batcher
from serve.inference.engine import Engine
from serve.inference.loop_batcher import LoopBatcher
from serve.inference.thread_batcher import ThreadBatcher
from serve.machine.busy_poll import BusyPoll
from serve.machine.idle_cores import Neighbours
from serve.machine.scheduling import Turns
from serve.model_file.spec import OUTPUT

# The longest run that may hold up the event loop. A net of 30 ms lost a quarter of its throughput there, one of 2 ms
# gained a third.
MOST_LOOP_RUN_S = 0.010


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


class _Waiting(NamedTuple):
    image: bytes | Prepared | Exception
    since_ns: int
    """When it came; of an image that was prepared aside, later by the time that this took."""


class Classifier:
    """A model that answers. Created on the event loop whose calls it serves."""

    def __init__(
        self,
        name: str,
        version: int,
        engine: Engine,
        *,
        admission: Admission,
        side_thread: Executor,
        turns: Turns,
        busy_poll: BusyPoll,
        neighbours: Neighbours,
        max_queue_delay_us: int,
        max_image_pixels: int,
    ) -> None:
        self.name = name
        self.version = version
        self.spec = engine.spec
        self.device = engine.placement.device
        self._engine = engine
        policy = find_policy(engine.spec.prepare, engine.spec.input)
        self._reader = ImageReader(policy, max_image_pixels)
        self._admission = admission
        self._side_thread = side_thread
        self._turns = turns
        self._busy_poll = busy_poll
        self._neighbours = neighbours
        self._is_quick = engine.full_batch_s <= MOST_LOOP_RUN_S
        self._is_quick_alone = engine.one_image_s <= MOST_LOOP_RUN_S
        self._batcher = self._make_batcher(max_queue_delay_us)

    async def classify(self, images: Sequence[bytes], deadline_s: float | None = None) -> list[Answer | Exception]:
        """Answer each image, or say in its place what was wrong with it.

        `deadline_s` is on the clock of `time.monotonic`. Raises Overloaded at once where there is no room,
        Expired where the deadline passed first, Draining while stopping.
        """
        with self._admission.admit(len(images), sum(map(len, images))):
            waiting = [_Waiting(image, time.perf_counter_ns()) for image in images]
            for index, image in enumerate(images):
                if is_large(image):
                    waiting[index] = await self._prepare_aside(image, waiting[index].since_ns)
            answers = self._batcher.submit(waiting, deadline_s)
            if answers.done():  # at once, as a lone caller's are
                self._busy_poll.follow(waiting[0].since_ns)
            return await answers

    def _make_batcher(self, max_queue_delay_us: int) -> Batcher[_Waiting, Answer | Exception]:
        """On the event loop where that holds up nobody for long and nothing else could use the time."""
        engine, placement = self._engine, self._engine.placement
        has_one_core = placement.device == "cpu" and placement.threads == 1 and not max_queue_delay_us
        if has_one_core and self._is_quick:
            return LoopBatcher(self._run, engine.max_batch)
        return ThreadBatcher(self._run, engine.max_batch, max_queue_delay_us, has_one_core and self._is_quick_alone)

    async def close(self) -> None:
        """Finish what was accepted, then stop."""
        await self._batcher.close()

    async def _prepare_aside(self, image: bytes, since_ns: int) -> _Waiting:
        """Prepare an image in the side thread; what it waits there counts as waiting for its batch does."""
        # Emptied when the caller leaves and admission gives its bytes back: the executor keeps what it was given until
        # the thread comes to it, wanted or not.
        held = [image]
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(self._side_thread, self._prepare_held, held)
        finally:
            held.clear()
        work_us = prepared.decode_us + prepared.prepare_us if isinstance(prepared, Prepared) else 0
        return _Waiting(prepared, since_ns + 1000 * work_us)

    def _prepare_held(self, held: list[bytes]) -> Prepared | Exception:
        """In the side thread. It may find nothing where the caller leaves at this moment; nobody hears of that."""
        return self._reader.read(held.pop())

    def _run(self, batch: list[_Waiting]) -> list[Answer | Exception]:
        """In the batcher's thread: an answer for each image, or what was wrong with it.

        Over two cores where others leave one idle; a short run anyway, for to keep to one takes longer than it.
        """
        begun_ns = time.perf_counter_ns()
        self._turns.follow(len(batch))
        if len(batch) == 1 and self._is_quick_alone:
            return self._answer(batch, begun_ns, spread=True)
        core_count = self._neighbours.take()
        try:
            return self._answer(batch, begun_ns, spread=core_count > 1 or self._is_quick)
        finally:
            self._neighbours.give_back(core_count)

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
        rows = iter(zip(probabilities.tolist(), rankings, strict=True))
        return [
            image
            if isinstance(image, Exception)
            else Answer(*next(rows), image, (begun_ns - waiting.since_ns) // 1000, inference_us, len(good))
            for waiting, image in zip(batch, prepared, strict=True)
        ]
