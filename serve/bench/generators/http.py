"""Load over HTTP in this process: one request after another on each of some connections.

Enters: bodies, where to POST them, a `Plan`. Leaves: a `Measurement`. Does not know: what the bodies hold, or whether
the answers are right. It reads of an answer what tells its end, so that it costs little.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Sequence

from serve.bench.load import TIMEOUT_S, Measurement, Plan

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MOST_HEAD_BYTES = 2**16


class HttpLoad:
    """A closed loop with as many connections as calls in flight, as HTTP/1.1 has one call at a time on each."""

    def __init__(self, port: int, path: str, bodies: Sequence[bytes], plan: Plan) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: "
        self._port = port
        self._requests = itertools.cycle([head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies])
        self._plan = plan
        self._found = Measurement(plan.images_per_call)

    async def run(self) -> Measurement:
        """Warm up, measure, and close the connections."""
        await self._loop(self._plan.warm_up_s)
        self._found = Measurement(self._plan.images_per_call)
        cpu_s, start_s = time.process_time(), time.perf_counter()
        await self._loop(self._plan.seconds)
        self._found.elapsed_s = time.perf_counter() - start_s
        self._found.generator_cpu_s = time.process_time() - cpu_s
        return self._found

    async def _loop(self, seconds: float) -> None:
        end_s = time.perf_counter() + seconds
        await asyncio.gather(*(self._call_until(end_s) for _ in range(self._plan.concurrency)))

    async def _call_until(self, end_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=MOST_HEAD_BYTES)
        try:
            while (start_s := time.perf_counter()) < end_s:
                writer.write(next(self._requests))
                async with asyncio.timeout(TIMEOUT_S):
                    code = await _read_answer(reader)
                self._note(code, (time.perf_counter() - start_s) * 1e6)
        finally:
            writer.close()

    def _note(self, code: str, latency_us: float) -> None:
        if code == "200":
            self._found.good_calls += 1
            self._found.latencies_us.append(latency_us)
        else:
            self._found.errors[code] += 1
            self._found.error_latencies_us.append(latency_us)


async def _read_answer(reader: asyncio.StreamReader) -> str:
    """The code of an answer, once all of it has come."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    await reader.readexactly(int(length[1]) if length else 0)
    return head[9:12].decode()
