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
        tasks: list[asyncio.Task[Prepared | Exception]] = []
        try:
            for image in images:
                pixels = self._count(image)
                while (under_way := [task for task in tasks if not task.done()]) and (
                    len(under_way) >= self.threads or not self._has_room(client, pixels)
                ):
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                while waits and not self._has_room(client, pixels):
                    self._freed.clear()
                    await self._freed.wait()
                tasks.append(asyncio.create_task(self._read(self._admit(reader, image, client, pixels))))
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _read(self, job: _Job) -> Prepared | Exception:
        self._queues.setdefault(job.client, deque()).append(job)
        self._dispatch()
        try:
            return await job.done
        finally:
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
        if not self._has_room(client, pixels):
            raise Overloaded(
                f"at most {self._max_pending_pixels:,} pixels may wait here to be decoded, and half of them of one "
                "client; try again later"
            )
        self.pending_pixels += pixels
        self._pixels_of[client] = self._pixels_of.get(client, 0) + pixels
        return _Job(reader, image, client, pixels, asyncio.get_running_loop().create_future())

    def _dispatch(self) -> None:
        """Give free threads the next jobs: one of each client in turn."""
        while self._running < self.threads and self._queues:
            client, jobs = self._queues.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._queues[client] = jobs
            if job.done.done():  # its caller has left
                self._release(job)
                continue
            self._running += 1
            run = asyncio.get_running_loop().run_in_executor(self._executor, job.reader.read, job.image)
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
