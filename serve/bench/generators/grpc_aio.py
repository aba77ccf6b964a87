"""Load by grpc.aio in this process: requests that differ from call to call.

Enters: serialized requests, an address, a `Plan`. Leaves: a `Measurement`.
Does not know: what the requests ask, or whether the answers are right.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from serve.bench.load import TIMEOUT_S, Measurement, Plan
from serve.client.channel import open_aio_channel
from serve.client.endpoint import Endpoint, to_endpoint

Report = Callable[[float, int], None]
"""Takes the elapsed seconds and the images answered so far."""


class GrpcLoad:
    """The generator with grpc.aio. Created and run on one event loop."""

    def __init__(self, server: Endpoint | str, requests: Sequence[bytes], plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._requests = itertools.cycle(requests)
        self._channels = [open_aio_channel(server) for _ in range(plan.connections)]
        self._calls: Iterator[Any] = itertools.cycle([channel.unary_unary(plan.method) for channel in self._channels])
        self._metadata = to_endpoint(server).metadata
        self._found = Measurement(plan.images_per_call)

    async def run(self) -> Measurement:
        """Warm up, measure, and close the connections."""
        loop = self._open_loop if self._plan.rate else self._closed_loop
        await loop(self._plan.warm_up_s)
        self._found = Measurement(self._plan.images_per_call)
        cpu_s, start_s = time.process_time(), time.perf_counter()
        watch = asyncio.create_task(self._watch(start_s))
        await loop(self._plan.seconds)
        watch.cancel()
        self._found.elapsed_s = time.perf_counter() - start_s
        self._found.generator_cpu_s = time.process_time() - cpu_s
        await asyncio.gather(*(channel.close() for channel in self._channels))
        return self._found

    async def _closed_loop(self, seconds: float) -> None:
        end_s = time.perf_counter() + seconds

        async def caller() -> None:
            while (now_s := time.perf_counter()) < end_s:
                await self._call(now_s)

        await asyncio.gather(*(caller() for _ in range(self._plan.concurrency)))

    async def _open_loop(self, seconds: float) -> None:
        """Start each call at its time, however many are in flight."""
        start_s = time.perf_counter()
        pending: set[asyncio.Task[None]] = set()
        for number in range(int(seconds * self._plan.rate)):
            intended_s = start_s + number / self._plan.rate
            if (wait_s := intended_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            elif number % 16 == 0:
                await asyncio.sleep(0)  # behind schedule: read replies nevertheless
            task = asyncio.create_task(self._call(intended_s))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)

    async def _call(self, since_s: float) -> None:
        found = self._found
        try:
            await next(self._calls)(next(self._requests), timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            found.errors[error.code().name] += 1
            found.error_latencies_us.append((time.perf_counter() - since_s) * 1e6)
        else:
            found.good_calls += 1
            found.latencies_us.append((time.perf_counter() - since_s) * 1e6)

    async def _watch(self, start_s: float) -> None:
        while True:
            await asyncio.sleep(1)
            self._report(time.perf_counter() - start_s, self._found.good_calls * self._plan.images_per_call)
