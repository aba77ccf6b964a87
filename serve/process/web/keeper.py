"""Keeps the web process alive beside the workers: the page and the HTTP API.

Enters: a ServerConfig. Leaves: a process that listens, until the supervisor stops. Does not know: what it answers, and
none of its packages.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from importlib.util import find_spec

from serve.config import ServerConfig
from serve.errors import ConfigError
from serve.process.listening.port import listen
from serve.process.startup import make_environment, name_end, next_pause_s, send_signal
from serve.process.web.sockets import make_folder, remove_folder
from serve.telemetry.logs import LONGEST_LINE, forward_lines

logger = logging.getLogger(__name__)

PACKAGES = ("starlette", "uvicorn", "python_multipart")
DRAIN_S = 2.0
"""Seconds that the web process has to answer what it took before the workers are told to stop."""
LAST_LINES_S = 1.0
"""Seconds within which what it logged before its end is read."""


class WebKeeper:
    """Starts the web process, starts it again when it ends, and stops it before the workers."""

    def __init__(self, config: ServerConfig, pipe: int | None) -> None:
        """`pipe` is where it logs to. Raises PortTaken, ConfigError."""
        if missing := [package for package in PACKAGES if not find_spec(package)]:
            raise ConfigError(f"--web-port: {missing[0]} is not installed; install the extra [web]")
        self._config = config
        self._pipe = pipe
        self._listener = listen("--web-host, --web-port", config.web_host, config.web_port)
        self._folder = make_folder()
        self.may_start = asyncio.Event()
        """Set once the workers serve: until then, callers wait for the port to answer."""
        self._has_ended = asyncio.Event()

    def find_socket(self, number: int) -> str:
        """Where worker `number` is to listen."""
        return str(self._folder / str(number))

    async def wait_until_ended(self) -> None:
        """Until the process has ended, or has had its time. During a lame duck, it ends before that is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_ended.wait(), max(0.0, DRAIN_S - self._config.lame_duck_s))

    async def run(self, stopping: asyncio.Event, killing: asyncio.Event) -> None:
        """Keep the process alive until the server stops."""
        await _first((self.may_start, stopping))
        pause_s = 0.0
        while not stopping.is_set():
            started_s = time.monotonic()
            code = await self._run_once(stopping, killing)
            if stopping.is_set():
                break
            pause_s = next_pause_s(pause_s, time.monotonic() - started_s)
            logger.error("the web process ended with %s; starting another in %.1f s", name_end(code), pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause_s)
        self._has_ended.set()

    def close(self) -> None:
        """Give the port and the folder up."""
        self._listener.close()
        remove_folder(self._folder)

    async def _run_once(self, stopping: asyncio.Event, killing: asyncio.Event) -> int:
        """One process from its start to its end: its exit code."""
        try:
            process = await self._start()
        except OSError as error:
            logger.error("the system starts no web process: %s", error)
            return 1
        streams = ((process.stdout, "stdout"), (process.stderr, "stderr"))
        reading = [asyncio.create_task(forward_lines(stream, name)) for stream, name in streams if stream]
        ending = asyncio.create_task(self._end(process, stopping, killing))
        try:
            code = await process.wait()
            if reading:
                await asyncio.wait(reading, timeout=LAST_LINES_S)
            return code
        finally:
            for task in (*reading, ending):
                task.cancel()

    async def _start(self) -> Process:
        # It reads its stdin, whose other end closes with this process. A process group of its own, as for a worker.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "serve.web", *self._make_flags()),
            stdin=PIPE,
            stdout=self._pipe,
            stderr=self._pipe,
            limit=LONGEST_LINE,
            process_group=0,
            pass_fds=(self._listener.fileno(),),
            env=make_environment(),
        )

    def _make_flags(self) -> list[str]:
        config = self._config
        flags = {
            "--listen-fd": self._listener.fileno(),
            "--tls-cert": config.tls_cert,
            "--tls-key": config.tls_key,
            "--tls-client-ca": config.tls_client_ca,
            "--cors-origins": config.web_cors_origins,
            "--max-body-bytes": config.max_message_bytes,
            "--lame-duck-s": max(0, config.lame_duck_s - int(DRAIN_S)),
            "--grace-s": int(max(DRAIN_S, config.grace_s)),
            "--log-format": config.log_format,
            "--log-level": config.log_level,
        }
        sockets = [f"--address=unix:{self.find_socket(number)}" for number in range(config.workers)]
        return [*sockets, "--until-eof", *(f"{flag}={value}" for flag, value in flags.items() if value is not None)]

    async def _end(self, process: Process, stopping: asyncio.Event, killing: asyncio.Event) -> None:
        await stopping.wait()
        send_signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            longest_s = self._config.lame_duck_s + DRAIN_S + self._config.grace_s
            await asyncio.wait_for(killing.wait(), longest_s)
        send_signal(process, signal.SIGKILL)


async def _first(events: tuple[asyncio.Event, ...]) -> None:
    """Until one of the events is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
