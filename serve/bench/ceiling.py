"""What an image costs at the least: ONNX Runtime, Pillow, gRPC and the load generator, each on its own.

Enters: a model file, images, a way to put load on a server. Leaves: core-microseconds an image per part, whose sum
divides the cores into the ceiling of images a second. The parts are fixed (float32, batch 32, one thread; Pillow;
an empty unary call on the same event loop), so that a faster decoder or file shows as a larger fraction. Each is
measured alone; `all_cores` measures it on all cores at once, which where cores share anything is what a server gets.
Does not know: the server that is compared with it.
"""

import asyncio
import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import grpc
import numpy as np
import onnxruntime as ort
from PIL import Image

from serve.bench.load import Measurement
from serve.bench.target import measure_use
from serve.machine.cores import count_usable_cores
from serve.model_file.spec import INPUT

BATCH = 32
PART_S = 0.5


@contextmanager
def all_cores() -> Iterator[Callable[..., float]]:
    """A function that measures a part on every usable core at once, each in a process of its own; their mean."""
    count = count_usable_cores()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield lambda part, *arguments: statistics.mean(
            each.result() for each in [pool.submit(part, *arguments) for _ in range(count)]
        )


def measure_run_us(model: Path, images: Sequence[np.ndarray], batch: int = BATCH) -> float:
    """Bare ONNX Runtime on uint8 [N, H, W, C]: one thread, a batch at a time; core-microseconds an image."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    stacked = np.stack([images[index % len(images)] for index in range(batch)])
    return _cpu_us(lambda: session.run(None, {INPUT: stacked})) / batch


def measure_decode_us(encoded: Sequence[bytes]) -> float:
    """Pillow from bytes to pixels; core-microseconds an image."""

    def decode_all() -> None:
        for image_bytes in encoded:
            Image.open(io.BytesIO(image_bytes)).tobytes()

    return _cpu_us(decode_all) / len(encoded)


@dataclass(frozen=True, slots=True)
class CallCost:
    """An empty unary call: core-microseconds of the server and of the load generator, and the median latency."""

    server_us: float
    generator_us: float
    p50_us: float


def measure_call(load: Callable[[str], Measurement]) -> CallCost:
    """What an empty unary call costs under the same load."""
    with echo_server() as (pid, address):
        load(address)  # warms up
        before = measure_use(pid).cpu_s
        start_s = time.perf_counter()
        found = load(address)
        loaded_s = time.perf_counter() - start_s
        cpu_s = measure_use(pid).cpu_s - before
    # The load also runs while it warms up: its share of the time has its share of the calls.
    calls = found.calls * loaded_s / found.elapsed_s
    return CallCost(cpu_s / calls * 1e6, found.generator_cpu_s / found.calls * 1e6, found.percentile_us(0.5))


def _cpu_us(work: Callable[[], object]) -> float:
    """The CPU time of one call of `work`, over about PART_S seconds."""
    work()
    rounds, start_s, cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start_s < PART_S:
        work()
        rounds += 1
    return (time.process_time() - cpu_s) / rounds * 1e6


@contextmanager
def echo_server() -> Iterator[tuple[int, str]]:
    """A process that answers every unary call with nothing: its id and its address."""
    with subprocess.Popen([sys.executable, "-m", "serve.bench.ceiling"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.pid, process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


class _Echo(grpc.GenericRpcHandler):
    """Every method there is."""

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
    from serve.machine.event_loop import new_event_loop  # here: the ceilings themselves need no event loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_echo())
