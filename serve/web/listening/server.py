"""The process of the door: it listens, answers, and stops in order.

Enters: settings. Leaves: an exit code. Does not know: paths, requests.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from serve.errors import ConfigError, PortTaken
from serve.web.app import make_app
from serve.web.flags import Options
from serve.web.listening.connection import BoundedConnection
from serve.web.listening.tls import Certificates
from serve.web.requests.limits import Bodies, Bounds
from serve.web.upstream import Upstream

logger = logging.getLogger(__name__)

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
KEEP_ALIVE_S = 75
"""Seconds for which an idle connection stays open: longer than the minute after which balancers close theirs."""
MOST_CONNECTIONS = 1000
"""Connections at once; requests on a further one get a 503."""
MOST_HEAD_BYTES = 16 * 1024
"""Bytes of a request's first line and headers."""


class DoorServer(uvicorn.Server):
    """Uvicorn's server, which leaves signals to the process that it is in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change nothing."""
        yield


def run(options: Options) -> None:
    """Serve until a stop signal. Raises ConfigError if a port or a file cannot be had."""
    listener = _listen(options)
    certificates = None
    if options.tls_cert and options.tls_key:
        certificates = Certificates(options.tls_cert, options.tls_key, options.tls_client_ca)
    with asyncio.Runner(loop_factory=_make_config(None, options, None).get_loop_factory()) as runner:
        runner.run(_serve(options, listener, certificates))


async def _serve(options: Options, listener: socket.socket, certificates: Certificates | None) -> None:
    upstream = Upstream(options.endpoints, options.timeout_s, options.max_body_bytes)
    bodies = Bodies(Bounds(options.max_body_bytes, options.body_timeout_s, options.max_requests))
    app = make_app(upstream, bodies, options.origins)
    server = DoorServer(_make_config(app, options, certificates))
    stop = asyncio.Event()
    _stop_when_told(options, stop)
    tasks = [asyncio.create_task(_end(server, stop, options.lame_duck_s))]
    if certificates:
        tasks.append(asyncio.create_task(certificates.watch()))
    host, port = listener.getsockname()[:2]
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    logger.info("page on %s://%s/, in front of %s", "https" if certificates else "http", place, _name(options))
    await server.serve(sockets=[listener])
    for task in tasks:
        task.cancel()
    await upstream.close()
    logger.info("stopped")


def _name(options: Options) -> str:
    """What is behind the door, for the log."""
    workers = len(options.address)
    return options.address[0] if workers == 1 else f"{workers} workers"


def _stop_when_told(options: Options, stop: asyncio.Event) -> None:
    """Set the event at a stop signal, and when the process that started this one is gone."""
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    if options.until_eof:
        loop.add_reader(sys.stdin.fileno(), _read_end, loop, stop)


def _read_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


async def _end(server: DoorServer, stop: asyncio.Event, lame_duck_s: int) -> None:
    await stop.wait()
    logger.info("stopping")
    await asyncio.sleep(lame_duck_s)
    server.should_exit = True


def _make_config(app: object, options: Options, certificates: Certificates | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # None, where only the event loop is asked for
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=options.grace_s,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ssl_context_factory=(lambda *_: certificates.context) if certificates else None,
    )


def _listen(options: Options) -> socket.socket:
    """The socket that callers reach. Raises PortTaken, ConfigError."""
    if options.listen_fd is not None:
        return socket.socket(fileno=options.listen_fd)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=1024)
    except OSError as error:
        kind = PortTaken if error.errno == errno.EADDRINUSE else ConfigError
        raise kind(
            f"--host, --port: cannot listen on {options.host}:{options.port}; {error.strerror or error}"
        ) from error
