"""Many processes on one port: start workers, watch them, restart the dead, stop them all.

Enters: a ServerConfig with a number of workers. Leaves: an exit code when all workers have ended.
Does not know: gRPC, ONNX Runtime, models. It imports neither, so that it stays small and may start processes
at any time; the kernel spreads connections over the workers (SO_REUSEPORT).

A worker (`worker.py`) gets its settings as a line of JSON on stdin, and a place in memory that all share. It says
"ready" on stdout. Its stdin stays open as long as the supervisor lives: when that ends in any way, the worker reads the
end of file and drains.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from serve.config import ServerConfig
from serve.machine.cores import count_usable_cores
from serve.machine.idle_cores import share_memory
from serve.process.port import join_address, reserve_port

logger = logging.getLogger(__name__)

MOST_WORKERS = 8
Stream = TypeVar("Stream")

READY_LINE = b"ready\n"
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
# A worker that served this long did not die of its start.
SETTLED_S = 30.0
# What a worker needs beside its grace to load the end of a batch and close.
STOP_MARGIN_S = 5.0


class Supervisor:
    """Keeps `config.workers` workers alive until it is told to stop."""

    def __init__(self, config: ServerConfig) -> None:
        self._reserved = reserve_port(config.host, config.port)
        self._config = replace(config, port=self._reserved.getsockname()[1])
        self._memory = share_memory(config.workers)
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._ready: set[int] = set()
        """Numbers of the workers that have been ready."""

    def stop(self) -> None:
        """Begin to stop; may be called at any time and more than once."""
        self._stopping.set()

    async def run(self) -> int:
        """Run until told to stop, or until a worker fails at its very first start; the exit code."""
        logger.info("starting %d workers", self._config.workers)
        async with asyncio.TaskGroup() as group:
            for number in range(self._config.workers):
                group.create_task(self._keep_alive(number))
        self._reserved.close()
        os.close(self._memory)
        logger.info("stopped")
        return self._exit_code

    async def _keep_alive(self, number: int) -> None:
        """One worker after another in the same place, with a growing pause while they keep dying."""
        backoff_s = FIRST_BACKOFF_S
        served_before = False
        while not self._stopping.is_set():
            started_s = time.monotonic()
            served, code = await self._run_worker(number)
            if self._stopping.is_set():
                return
            if not served and not served_before:
                self._give_up(number, code)
                return
            served_before = True
            backoff_s = FIRST_BACKOFF_S if time.monotonic() - started_s > SETTLED_S else backoff_s
            logger.error("worker %d ended with %s; starting another in %.1f s", number, name_end(code), backoff_s)
            await self._pause(backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)

    async def _run_worker(self, number: int) -> tuple[bool, int]:
        """A worker from its start to its end: whether it served, its exit code."""
        try:
            process = await self._start_worker(number)
        except OSError as error:  # no more processes, or no memory for one: for now, and the others still serve
            logger.error("worker %d: the system starts no process: %s", number, error)
            return False, 1
        return await self._attend(process, number)

    async def _start_worker(self, number: int) -> Process:
        # A process group of its own: Ctrl-C reaches the supervisor alone, which then stops the workers in order. Not a
        # session: Linux shares the cores out among sessions first (sched(7), autogroup), and one worker's event loop
        # then waited up to 0.4 s while the batches of another ran.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serve.process.worker"),
            stdin=PIPE,
            stdout=PIPE,
            process_group=0,
            pass_fds=(self._memory,),
            env=_environment(),
        )
        told = {"settings": asdict(self._config), "number": number, "memory": self._memory}
        _pipe(process.stdin).write(json.dumps(told, default=str).encode() + b"\n")
        return process

    async def _attend(self, process: Process, number: int) -> tuple[bool, int]:
        """Wait for a worker to be ready and to end, and end it when told to stop: whether it served, its exit code."""
        ending = asyncio.create_task(self._end_when_told(process))
        served = False
        try:
            async for line in _pipe(process.stdout):
                if line == READY_LINE:
                    served = True
                    self._count_ready(number, process.pid)
            return served, await process.wait()
        finally:
            ending.cancel()

    async def _end_when_told(self, process: Process) -> None:
        await self._stopping.wait()
        _signal(process, signal.SIGTERM)
        await asyncio.sleep(self._config.grace_s + STOP_MARGIN_S)
        logger.error("process %d did not stop within its grace; killing it", process.pid)
        _signal(process, signal.SIGKILL)

    def _count_ready(self, number: int, pid: int) -> None:
        logger.info("worker %d is ready, process %d", number, pid)
        if number in self._ready:
            return
        self._ready.add(number)
        if len(self._ready) == self._config.workers:
            address = join_address(self._config.host, self._config.port)
            logger.info("serving with %d workers on %s", self._config.workers, address)

    def _give_up(self, number: int, code: int) -> None:
        """A worker that never served has a reason that another start will not mend."""
        logger.error("worker %d could not start (%s); stopping", number, name_end(code))
        self._exit_code = code if code > 0 else 1
        self.stop()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def choose_workers(config: ServerConfig) -> int:
    """The number of workers: as set, or one per usable core up to 8, or one where CUDA is to be used.

    A guess without starting CUDA, which would cost this process its memory: a worker finds out and says so.
    """
    if config.workers:
        return config.workers
    has_cuda = Path("/dev/nvidiactl").exists() and _is_installed("onnxruntime-gpu")
    if config.device == "cuda" or (config.device == "auto" and has_cuda):
        return 1
    return min(count_usable_cores(), MOST_WORKERS)


def _is_installed(distribution: str) -> bool:
    from importlib import metadata  # here: it costs a start more than all else that a supervisor imports

    try:
        return bool(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return False


def name_end(code: int) -> str:
    """An exit code as a reader says it."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself a moment ago
        process.send_signal(number)


def _pipe(end: Stream | None) -> Stream:
    """An end of a pipe that was asked for, and so is there."""
    if end is None:
        raise RuntimeError("the process was started without a pipe")
    return end


def _environment() -> dict[str, str]:
    # Each worker computes in ONNX Runtime; numpy's own pool would only hold memory.
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


async def supervise(config: ServerConfig) -> int:
    """Supervise until SIGTERM or SIGINT; the exit code. Raises ConfigError where the port cannot be had."""
    supervisor = Supervisor(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
    return await supervisor.run()
