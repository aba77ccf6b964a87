"""A port that several sockets share, and no other program; and how gRPC's connections on it behave.

Enters: a host and a port, the settings. Leaves: a socket that holds the port and does not listen, or ConfigError; the
options of a grpc.aio server. Does not know: who shares the port: the listeners of a worker, the workers of a server.
"""

import errno
import socket
import sys
import time

from serve.config import ServerConfig
from serve.errors import ConfigError, PortTaken

SPREADS_CONNECTIONS = sys.platform == "linux"
"""Whether SO_REUSEPORT spreads connections over the sockets. Elsewhere it is missing, or gives all to one of them."""
ORPHANS_S = 2.0
"""Seconds for which a taken port is tried again: the workers of a server that was killed need a moment to let it go."""

LEAST_STREAMS = 64
"""Calls that a connection may always have under way. RFC 9113, section 6.5.2, recommends 100 or more, for a server that
could use them; here the rest waits in the client and not in the server's memory."""

MIN_PING_INTERVAL_MS = 1000
"""Milliseconds between two pings of a client, from which on it may go on for ever."""
HANDSHAKE_S = 10.0
"""Seconds in which a new connection must begin to speak HTTP/2."""
IDLE_S = 600.0
"""Seconds without a call after which a connection is closed in order. Clients open another when they need one."""
KEEPALIVE_S = 60.0
"""Seconds without a sign of life after which a client with calls under way is asked for one."""
KEEPALIVE_TIMEOUT_S = 20.0
"""Seconds in which it must answer. The connections of peers that are gone would otherwise stay for hours."""


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that holds the port for those who share it; port 0 becomes a free one.

    Raises PortTaken if something else has the port: with SO_REUSEPORT alone two servers would share it silently.
    """
    ends_s = time.monotonic() + ORPHANS_S
    while True:
        try:
            return _reserve(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < ends_s:
                time.sleep(0.05)
                continue
            raise explain("--host, --port", host, port, error) from error


def _reserve(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as probe:
        port = probe.getsockname()[1]
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError:
        holder.close()
        raise
    return holder


def listen(flags: str, host: str, port: int) -> socket.socket:
    """A socket that listens on a port of its own. Raises PortTaken, ConfigError; both name the flags."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise explain(flags, host, port, error) from error


def explain(flags: str, host: str, port: int, error: OSError) -> ConfigError:
    """What keeps a port from being listened on: PortTaken if something else has it, else ConfigError."""
    kind = PortTaken if error.errno == errno.EADDRINUSE else ConfigError
    return kind(f"{flags}: cannot listen on {join_address(host, port)}; {error.strerror or error}")


def join_address(host: str, port: int) -> str:
    """As gRPC and a reader take it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def make_grpc_options(config: ServerConfig, *, shares_port: bool) -> list[tuple[str, int]]:
    """The settings of gRPC itself."""
    options = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", int(shares_port)),
        # At least two full batches per connection, one that runs and one that gathers; the rest waits in the client.
        # Without a bound, calls wait inside gRPC, which cancels them silently past a thousand.
        ("grpc.max_concurrent_streams", max(LEAST_STREAMS, 2 * config.max_batch)),
        ("grpc.server_handshake_timeout_ms", int(1000 * HANDSHAKE_S)),
        ("grpc.max_connection_idle_ms", int(1000 * IDLE_S)),
        ("grpc.keepalive_time_ms", int(1000 * KEEPALIVE_S)),
        ("grpc.keepalive_timeout_ms", int(1000 * KEEPALIVE_TIMEOUT_S)),
        ("grpc.http2.ping_timeout_ms", int(1000 * KEEPALIVE_TIMEOUT_S)),
        # It counts calls whose callers have left, and then rejects the others.
        ("grpc.http.overload_protection", 0),
        # Balancers and meshes ping every few seconds, also without calls. By default gRPC ends connections that ping
        # more often than every five minutes.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
    ]
    if config.max_connection_age_s:
        options.append(("grpc.max_connection_age_ms", config.max_connection_age_s * 1000))
    return options
