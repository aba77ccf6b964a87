"""Large images -> prepared ones, on threads beside the event loop: bounded by pixels, in turns by client.

Enters: image files, from the event loop, each with the reader of its model and the client that sent it.
Leaves: what the reader makes of them, or Overloaded at once. Does not know: models, batches, gRPC.
"""

import asyncio
import functools
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from serve.errors import Overloaded
from serve.images.decode import estimate_cost
from serve.images.reader import ImageReader, Prepared

_CLIENT_SHARE = 0.5
"""Share of the bound that one client may fill, so that it never keeps all others out. No image counts as more."""
_FIRST_SHARE = 0.02
"""Share of the bound below which a client's first image is always admitted, so that it need not win a race for room."""


@dataclass(slots=True, eq=False)
class _Job:
    reader: ImageReader
    image: bytes
    """Emptied when the caller leaves before its turn: its bytes count no longer, and are let go."""
    client: str
    pixels: int
    done: "asyncio.Future[Prepared | Exception]" = field(repr=False)
    is_running: bool = False
    """Whether a thread of the executor has it, or had it."""


def _read(job: _Job) -> Prepared | Exception:
    """In a thread. An image that was let go by now is read as an empty one."""
    return job.reader.read(job.image)


class DecodePool:
    """Decodes large images of all models of a process. Used on one event loop."""

    def __init__(self, executor: Executor, threads: int, max_pending_pixels: int, max_pixels: int) -> None:
        """`threads` of the executor run at a time; an image of unknown size counts as `max_pixels`."""
        self.threads = threads
        self.pending_pixels = 0
        """Pixels that wait or are being decoded."""
        self._executor = executor
        self._max_pending_pixels = max_pending_pixels
        self._max_pixels = max_pixels
        self._running = 0
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()
        """Waiting jobs by client; the client whose turn is next comes first."""
        self._pixels_of: dict[str, int] = {}
        self._freed = asyncio.Event()

    async def read_all(
        self, reader: ImageReader, images: Sequence[bytes], client: str, *, waits: bool = False
    ) -> list[Prepared | Exception]:
        """Prepare the images of one call. If too many pixels wait already, wait too or raise Overloaded.

        An image larger than a client's share is admitted when it is the client's only one: it could never be decoded
        otherwise. The images of one call wait for each other rather than being refused.
        """
        jobs: list[_Job] = []
        try:
            for image in images:
                pixels = self._count(image)
                while (under_way := [job.done for job in jobs if not job.done.done()]) and (
                    len(under_way) >= self.threads or not self._has_room(client, pixels)
                ):
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                while waits and not self._has_room(client, pixels):
                    self._freed.clear()
                    await self._freed.wait()
                jobs.append(self._admit(reader, image, client, pixels))
                self._dispatch()
            return await asyncio.gather(*(job.done for job in jobs))
        finally:
            for job in jobs:
                self._leave(job)

    def _leave(self, job: _Job) -> None:
        """Let go of an image whose call has ended. If no thread has it, its pixels are free at once."""
        job.done.cancel()
        if not job.is_running:
            self._release(job)
        job.image = b""

    def _count(self, image: bytes) -> int:
        return max(1, min(estimate_cost(image, self._max_pixels), int(_CLIENT_SHARE * self._max_pending_pixels)))

    def _has_room(self, client: str, pixels: int) -> bool:
        own = self._pixels_of.get(client, 0)
        if not own and pixels <= _FIRST_SHARE * self._max_pending_pixels:
            return True
        is_over = self.pending_pixels and self.pending_pixels + pixels > self._max_pending_pixels
        is_over_share = own and own + pixels > _CLIENT_SHARE * self._max_pending_pixels
        return not (is_over or is_over_share)

    def _admit(self, reader: ImageReader, image: bytes, client: str, pixels: int) -> _Job:
        """Count an image and queue it in one step, so that a call which is cancelled now leaves nothing counted."""
        if not self._has_room(client, pixels):
            raise Overloaded(
                f"at most {self._max_pending_pixels:,} pixels may wait here to be decoded, and half of them of one "
                "client; try again later"
            )
        self.pending_pixels += pixels
        self._pixels_of[client] = self._pixels_of.get(client, 0) + pixels
        job = _Job(reader, image, client, pixels, asyncio.get_running_loop().create_future())
        self._queues.setdefault(client, deque()).append(job)
        return job

    def _dispatch(self) -> None:
        """Give free threads the next jobs: one of each client in turn."""
        while self._running < self.threads and self._queues:
            client, jobs = self._queues.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._queues[client] = jobs
            if job.done.done():  # its caller has left
                continue
            self._running += 1
            job.is_running = True
            run = asyncio.get_running_loop().run_in_executor(self._executor, _read, job)
            run.add_done_callback(functools.partial(self._finish, job))

    def _finish(self, job: _Job, run: "asyncio.Future[Prepared | Exception]") -> None:
        self._running -= 1
        self._release(job)
        if not job.done.done() and not run.cancelled():
            job.done.set_result(run.result())
        self._dispatch()

    def _release(self, job: _Job) -> None:
        self.pending_pixels -= job.pixels
        self._freed.set()
        left = self._pixels_of[job.client] - job.pixels
        if left:
            self._pixels_of[job.client] = left
        else:
            del self._pixels_of[job.client]
