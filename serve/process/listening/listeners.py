"""The grpc.aio servers of a process: made for its services, bound to its port, and closed.

Enters: a ServerConfig, the handlers of each service, the certificate in force. Leaves: listeners that take calls, or
PortTaken. Does not know: models, what a call asks for, when the process stops.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TypeAlias

import grpc

from serve.api.inkling_v1 import SERVICE
from serve.api.security.certificate import Pair
from serve.api.security.credentials import make_credentials
from serve.api.security.files import WatchedFiles
from serve.api.wire import Handler
from serve.config import ServerConfig
from serve.errors import PortTaken
from serve.process.listening.port import SPREADS_CONNECTIONS, join_address, make_grpc_options

REGISTERED = ("Classify", "BatchClassify")
"""Methods that are registered with gRPC. The others are found by name: grpc.aio waits at every call for the next one of
each registered method, so every one costs all calls (docs/benchmarks/history.md)."""

LISTENERS = 32 if SPREADS_CONNECTIONS else 1
"""grpc.aio servers of a process, each with a share of the connections.

One takes its calls one after the other, over several iterations of the event loop each. Calls that come faster wait
inside gRPC, where they cannot be rejected, and hold up all connections of that server (docs/benchmarks/history.md).
"""

FLUSH_S = 0.25
"""Seconds that clients have to take the last answers and to close, once no handler runs."""
CLOSE_S = 2.0
"""Seconds that the other connections have to end, once their calls are cancelled."""

Services: TypeAlias = Mapping[str, dict[str, Handler]]
"""The handlers of each service by the names of the service and of the method."""


class Listeners:
    """All listeners of a process. Made and used on one event loop."""

    def __init__(self, config: ServerConfig, services: Services) -> None:
        self._config = config
        options = make_grpc_options(config, shares_port=config.workers > 1 or LISTENERS > 1)
        self._servers = [_make_server(options, services) for _ in range(LISTENERS)]
        self._stops: list[asyncio.Task[None]] = []

    def bind(self, pair: WatchedFiles[Pair] | None, web_socket: str) -> int:
        """Take the port with every listener; port 0 becomes a free one. Raises PortTaken if it cannot be had.

        One of them takes the Unix socket, too, if its path is not empty.
        """
        port = self._config.port
        for server in self._servers:
            address = join_address(self._config.host, port)
            try:
                if pair:
                    port = server.add_secure_port(address, make_credentials(pair))
                else:
                    port = server.add_insecure_port(address)
            except RuntimeError as error:
                causes = "is another server there, or the certificate of a kind that gRPC does not take?"
                raise PortTaken(f"--host, --port: cannot listen on {address}; {causes}") from error
        if web_socket:  # in a folder that only this user may enter, so there is no TLS; tokens are asked for
            self._servers[0].add_insecure_port(f"unix:{web_socket}")
        return port

    async def start(self) -> None:
        """Take calls from now on."""
        for server in self._servers:
            await server.start()

    def begin_stop(self) -> None:
        """Take no new connections, and let calls go on for the grace of the settings.

        Each listener sends GOAWAY and closes its listening socket at once, then waits for its connections. These may be
        silent for ever, so `stop` ends them.
        """
        self._stops = [asyncio.create_task(server.stop(self._config.grace_s)) for server in self._servers]

    async def stop(self) -> None:
        """Close the connections, after `begin_stop` and once no handler runs."""
        await asyncio.wait(self._stops, timeout=FLUSH_S)
        ended = asyncio.gather(*(server.stop(None) for server in self._servers), *self._stops)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended, CLOSE_S)


def _make_server(options: list[tuple[str, int]], services: Services) -> grpc.aio.Server:
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())
    )
    registered = {name: services[SERVICE.full_name][name] for name in REGISTERED}
    server.add_registered_method_handlers(SERVICE.full_name, registered)
    return server
