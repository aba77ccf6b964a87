"""Load on a server: prepared requests at a set concurrency or rate -> latencies, errors, and what the load itself cost.

Enters: serialized requests, an address, a `Plan`. Leaves: a `Measurement`, or one reply. The generator here is grpc.aio
in this process, whose requests differ from call to call; the other is in `h2load.py`.
Does not know: what is asked, or how good the answers are.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from serve.client.channel import open_aio_channel, open_channel
from serve.errors import ConfigError

LONGEST_CALL_S = 30
Report = Callable[[float, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load: `rate` 0 is a closed loop of `concurrency` callers, else calls a second, whoever answers."""

    method: str
    """As "/inkling.v1.ClassifierService/Classify"."""
    images_per_call: int
    concurrency: int
    connections: int
    rate: float
    seconds: float
    warm_up_s: float


@dataclass(slots=True)
class Measurement:
    """What came of a plan. Latencies of good calls alone, in microseconds; open loop: from the intended start."""

    images_per_call: int
    elapsed_s: float = 0
    latencies_us: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    error_latencies_us: list[float] = field(default_factory=list)
    good_calls: int = 0
    generator_cpu_s: float = 0

    @property
    def images_per_s(self) -> float:
        """Good answers."""
        return self.good_calls * self.images_per_call / self.elapsed_s

    @property
    def calls(self) -> int:
        """Good and bad."""
        return self.good_calls + self.errors.total()

    def percentile_us(self, share: float) -> float:
        """Of the good calls' latencies; NaN where there are none."""
        return percentile(self.latencies_us, share)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of the values lies below; NaN where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def look_at_reply(address: str, method: str, request: bytes) -> bytes:
    """The reply to a request that a load will send. Raises ConfigError where there is none."""
    with open_channel(address) as channel:
        call: Any = channel.unary_unary(method)
        try:
            return bytes(call(request, timeout=LONGEST_CALL_S))
        except grpc.RpcError as error:
            status: Any = error
            raise ConfigError(f"{method}: wanted an answer, got {status.code().name}: {status.details()}") from error


class GrpcLoad:
    """grpc.aio, over as many connections as the plan says. Created and run on one event loop."""

    def __init__(self, address: str, requests: Sequence[bytes], plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._requests = itertools.cycle(requests)
        self._channels = [open_aio_channel(address) for _ in range(plan.connections)]
        self._calls: Iterator[Any] = itertools.cycle([channel.unary_unary(plan.method) for channel in self._channels])
        self._found = Measurement(plan.images_per_call)

    async def run(self) -> Measurement:
        """Warm up, measure, close."""
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
        """Start a call whenever its time has come, however many are under way."""
        start_s = time.perf_counter()
        pending: set[asyncio.Task[None]] = set()
        for number in range(int(seconds * self._plan.rate)):
            intended_s = start_s + number / self._plan.rate
            if (wait_s := intended_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            elif number % 16 == 0:
                await asyncio.sleep(0)  # late: let answers in all the same
            task = asyncio.create_task(self._call(intended_s))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)

    async def _call(self, since_s: float) -> None:
        found = self._found
        try:
            await next(self._calls)(next(self._requests), timeout=LONGEST_CALL_S)
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
