"""The least that an image costs: ONNX Runtime, Pillow, gRPC and the load generator, each measured alone.

Enters: a model file, images, a function that loads a server. Leaves: core-microseconds an image for each part.
Does not know: the server that is compared with it.

The ceiling, in images a second, is the number of usable cores divided by the sum of the parts. The parts are fixed: the
float32 file in batches of 32 on one thread, Pillow, and an empty unary call on the same event loop. So a faster decoder
or model file raises the fraction of the ceiling. `all_cores` measures a part on all cores at once, because cores that
share caches or memory are slower then.
"""

import asyncio
import io
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
from PIL import Image

from serve.bench.load import Measurement
from serve.bench.report import Costs
from serve.bench.target import measure_use
from serve.images.pixels import Pixels
from serve.machine.cores import count_usable_cores
from serve.model_file.spec import INPUT

BATCH = 32
PART_S = 0.5
"""Seconds for which a part is repeated."""


def measure_costs(
    file: Path, images: Sequence[Pixels], encoded: Sequence[bytes], per_call: int, load: Callable[[str], Measurement]
) -> Costs:
    """Measure the parts for requests of `per_call` images; `load` sends the empty calls to an address."""
    call = measure_call(load)
    decode_us = measure_decode_us(encoded)
    run_request_us = measure_run_us(file, images, per_call)
    with all_cores() as on_all_cores:
        on_all_cores(measure_decode_us, encoded)  # the processes start slowly
        busy_decode_us = on_all_cores(measure_decode_us, encoded)
        busy_run_us = on_all_cores(measure_run_us, file, images)
    return Costs(
        run_us=measure_run_us(file, images),
        decode_us=decode_us,
        busy_run_us=busy_run_us,
        busy_decode_us=busy_decode_us,
        call_us=call.server_us / per_call,
        generator_us=call.generator_us / per_call,
        floor_ms=(call.p50_us + (decode_us + run_request_us) * per_call) / 1000,
    )


@contextmanager
def all_cores() -> Iterator[Callable[..., float]]:
    """A function that measures a part in one process per usable core, at the same time, and returns the mean."""
    count = count_usable_cores()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield lambda part, *arguments: statistics.mean(
            each.result() for each in [pool.submit(part, *arguments) for _ in range(count)]
        )


def measure_run_us(file: Path, images: Sequence[Pixels], batch: int = BATCH) -> float:
    """Core-microseconds an image of ONNX Runtime alone: uint8 [batch, H, W, C] on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    stacked = np.stack([images[index % len(images)] for index in range(batch)])
    return _cpu_us(lambda: session.run(None, {INPUT: stacked})) / batch


def measure_decode_us(encoded: Sequence[bytes]) -> float:
    """Core-microseconds an image of Pillow, from a file's bytes to pixels."""

    def decode_all() -> None:
        for image_bytes in encoded:
            Image.open(io.BytesIO(image_bytes)).tobytes()

    return _cpu_us(decode_all) / len(encoded)


@dataclass(frozen=True, slots=True)
class CallCost:
    """An empty unary call: core-microseconds of the server and of the load generator, median latency in us."""

    server_us: float
    generator_us: float
    p50_us: float


def measure_call(load: Callable[[str], Measurement]) -> CallCost:
    """Load a server that answers every call with nothing."""
    with echo_server() as (pid, address):
        load(address)  # warm up
        before = measure_use(pid).cpu_s
        start_s = time.perf_counter()
        found = load(address)
        loaded_s = time.perf_counter() - start_s
        cpu_s = measure_use(pid).cpu_s - before
    # The server's CPU time includes the generator's own warm-up, so count the calls of all the time.
    calls = found.calls * loaded_s / found.elapsed_s
    return CallCost(cpu_s / calls * 1e6, found.generator_cpu_s / found.calls * 1e6, found.percentile_us(0.5))


def _cpu_us(work: Callable[[], object]) -> float:
    """The mean CPU time of `work` in microseconds, over about PART_S seconds."""
    work()
    rounds, start_s, cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start_s < PART_S:
        work()
        rounds += 1
    return (time.process_time() - cpu_s) / rounds * 1e6


@contextmanager
def echo_server() -> Iterator[tuple[int, str]]:
    """A process that answers every unary call with nothing; its id and its address."""
    with subprocess.Popen([sys.executable, "-m", "serve.bench.ceiling"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.pid, process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


class _Echo(grpc.GenericRpcHandler):
    """Every method, whatever its name."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return grpc.unary_unary_rpc_method_handler(_answer)


async def _answer(request: bytes, context: object) -> bytes:
    return b""


async def _echo() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(),))
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    from serve.machine.event_loop import new_event_loop  # here: only this process runs an event loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_echo())
