"""The supervisor: starts the workers, watches them, replaces those that end, and stops them all.

Enters: a ServerConfig. Leaves: an exit code when all workers have ended. Does not know: gRPC, ONNX Runtime, models.
It imports neither of them, so that it stays small and starts processes at any time. There is always one, for a single
worker as for many; the kernel spreads connections over the workers (SO_REUSEPORT).

A worker (`worker.py`) gets its settings over a link (`link.py`) and says there when it serves. The link ends with
either process.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import replace

from serve.api.security.access import Access
from serve.config import ServerConfig, to_texts
from serve.machine.cores import count_usable_cores
from serve.machine.idle_cores import share_memory
from serve.process.control.decide import Decider
from serve.process.control.precision import may_use_cuda
from serve.process.link import Link, Serving, Start
from serve.process.listening.port import join_address, reserve_port
from serve.process.startup import STOP_SIGNALS, make_environment, name_end, next_pause_s, send_signal
from serve.process.status import Status, open_http
from serve.process.watch import WorkerWatch
from serve.process.web.keeper import WebKeeper
from serve.telemetry.logs import LONGEST_LINE, forward_lines

logger = logging.getLogger(__name__)

MOST_WORKERS = 8
LAST_MESSAGES_S = 1.0
"""Seconds within which what a worker sent before its end is read."""
STOP_MARGIN_S = 5.0
"""Seconds that a worker needs beside its grace to finish a batch and close."""


class Supervisor:
    """Keeps `config.workers` workers alive until it is told to stop."""

    def __init__(self, config: ServerConfig, needs_metrics_port: bool = False) -> None:
        """Raises ConfigError if a file is wrong, there is no model file, or a port cannot be had.

        The port of the metrics may be taken unless it is needed.
        """
        self._access = Access(config.tls_cert, config.tls_key, config.tls_client_ca, config.tokens)
        self._models = Decider(config)
        self.status = Status(config.workers)
        self._http = open_http(config, self.status, needs_metrics_port)
        self._reserved = reserve_port(config.host, config.port)
        self._config = replace(config, port=self._reserved.getsockname()[1])
        # Lines of JSON come through this process, which wraps what libraries print on their own.
        self._pipe = PIPE if config.log_format == "json" else None
        self._web = WebKeeper(self._config, self._pipe) if config.web_port else None
        self._memory = share_memory(config.workers)
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._exit_code = 0
        self._have_served: set[int] = set()
        """Numbers of the workers that have served."""

    def stop(self) -> None:
        """Begin to stop; the second call stops at once, whatever is under way."""
        if self._stopping.is_set():
            logger.warning("told to stop once more; killing the workers")
            self._exit_code = self._exit_code or 1
            self._killing.set()
        else:
            logger.info("stopping; accepted calls have %d s to finish", self._config.grace_s)
        self.status.is_stopping = True
        self._stopping.set()

    async def run(self) -> int:
        """Run until told to stop, or until a worker fails at its very first start; the exit code."""
        logger.info("starting %s", _count(self._config.workers))
        self._warn_of_plaintext()
        tasks = [self._models.run(), self._access.watch(), self._access.warn_of_expiry()]
        watching = [asyncio.create_task(task) for task in tasks]
        if self._http:
            await self._http.start()
        async with asyncio.TaskGroup() as group:
            if self._web:
                group.create_task(self._web.run(self._stopping, self._killing))
            for number in range(self._config.workers):
                group.create_task(self._keep_alive(number))
        for task in watching:
            task.cancel()
        if self._http:
            await self._http.close()
        if self._web:
            self._web.close()
        self._reserved.close()
        os.close(self._memory)
        logger.info("stopped")
        return self._exit_code

    def _warn_of_plaintext(self) -> None:
        """Say once that others on the network can read what is sent, if they can."""
        host = self._reserved.getsockname()[0]
        if not self._access.pair and not host.startswith("127.") and host != "::1":
            what = "images and tokens are" if self._access.tokens else "images are"
            logger.warning("listening beyond this machine without TLS: %s sent as plain text (--tls-cert)", what)

    async def _keep_alive(self, number: int) -> None:
        """One worker after another in the same place, with a growing pause while they keep ending."""
        pause_s = 0.0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            code = await self._run_worker(number)
            if self._stopping.is_set():
                return
            if number not in self._have_served:
                self._give_up(number, code)
                return
            pause_s = next_pause_s(pause_s, time.monotonic() - started_s)
            logger.error("worker %d ended with %s; starting another in %.1f s", number, name_end(code), pause_s)
            self.status.metrics.worker_restarts += 1
            await self._pause(pause_s)

    async def _run_worker(self, number: int) -> int:
        """A worker from its start to its end: its exit code."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await self._start_worker(theirs.fileno())
        except OSError as error:  # no more processes, or no memory for one: for now, and the others still serve
            ours.close()
            logger.error("worker %d: the system starts no process: %s", number, error)
            return 1
        link = await Link.over(ours)
        web_socket = self._web.find_socket(number) if self._web else ""
        link.send(Start(to_texts(self._config), number, self._memory, web_socket))
        return await self._attend(process, link, number)

    async def _start_worker(self, link: int) -> Process:
        # A process group of its own: Ctrl-C reaches the supervisor alone, which then stops the workers in order. Not a
        # session of its own: Linux shares the cores out among sessions first (sched(7), autogroup), and the event loop
        # of one worker would wait for the batches of another.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serve.process.worker", str(link)),
            stdin=DEVNULL,
            stdout=self._pipe,
            stderr=self._pipe,
            limit=LONGEST_LINE,
            process_group=0,
            pass_fds=(link, self._memory),
            env=make_environment(),
        )

    async def _attend(self, process: Process, link: Link, number: int) -> int:
        """Wait for a worker to serve and to end, and end it when told to stop or when it hangs: its exit code."""
        watched = WorkerWatch(f"worker {number}", self._config.start_timeout_s, self._config.hang_timeout_s)
        reading = [asyncio.create_task(self._listen(link, watched, number, process.pid))]
        for stream, name in ((process.stdout, "stdout"), (process.stderr, "stderr")):
            if stream:
                reading.append(asyncio.create_task(forward_lines(stream, name)))
        watching = [
            asyncio.create_task(self._models.join(number, link)),
            asyncio.create_task(self._end_when_told(process)),
            asyncio.create_task(self._kill_when_hung(process, watched)),
        ]
        try:
            code = await process.wait()
            await asyncio.wait(reading, timeout=LAST_MESSAGES_S)  # its last counts and lines are still on their way
            self._models.leave(number, has_crashed=code < 0 and not self._stopping.is_set())
            return code
        finally:
            for task in (*reading, *watching):
                task.cancel()
            link.close()
            self.status.note_end(number)

    async def _listen(self, link: Link, watched: WorkerWatch, number: int, pid: int) -> None:
        async for message in link.receive():
            watched.note(message)
            self.status.note(message, number, link)
            self._models.note(message, number)
            if isinstance(message, Serving):
                self._note_serving(message, number, pid)

    async def _kill_when_hung(self, process: Process, watched: WorkerWatch) -> None:
        logger.error("%s; killing process %d", await watched.wait_until_hung(), process.pid)
        send_signal(process, signal.SIGKILL)

    async def _end_when_told(self, process: Process) -> None:
        await self._stopping.wait()
        if self._web:
            await self._web.wait_until_ended()
        send_signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(
                self._killing.wait(), self._config.lame_duck_s + self._config.grace_s + STOP_MARGIN_S
            )
        except TimeoutError:
            logger.error("process %d did not stop within its grace; killing it", process.pid)
        send_signal(process, signal.SIGKILL)

    def _note_serving(self, message: Serving, number: int, pid: int) -> None:
        logger.info("worker %d is ready, process %d", number, pid)
        if number in self._have_served:
            return
        self._have_served.add(number)
        if len(self._have_served) == self._config.workers:
            names, workers = ", ".join(message.models), _count(self._config.workers)
            logger.info("serving %s with %s on %s", names, workers, join_address(self._config.host, self._config.port))
            if self._web:
                self._web.may_start.set()

    def _give_up(self, number: int, code: int) -> None:
        """A worker that never served has a reason that another start will not mend."""
        logger.error("worker %d could not start (%s); stopping", number, name_end(code))
        self._exit_code = code if code > 0 else 1
        self.status.is_stopping = True
        self._stopping.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def choose_workers(config: ServerConfig) -> int:
    """The number of workers: as set, or one per usable core up to 8, or one if CUDA is to be used."""
    if config.workers:
        return config.workers
    return 1 if may_use_cuda(config.device) else min(count_usable_cores(), MOST_WORKERS)


def _count(workers: int) -> str:
    return f"{workers} worker" + "s" * (workers != 1)


async def supervise(config: ServerConfig, needs_metrics_port: bool = False) -> int:
    """Supervise until a stop signal; the exit code. Raises ConfigError if a port cannot be had."""
    supervisor = Supervisor(config, needs_metrics_port)
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
    return await supervisor.run()
