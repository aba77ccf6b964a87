"""A port that several sockets share, and no other program.

Enters: a host and a port. Leaves: a socket that holds the port and does not listen, or ConfigError.
Does not know: gRPC, and who shares the port: the listeners of a worker, and the workers of a server.
"""

import errno
import socket
import sys
import time

from serve.errors import ConfigError, PortTaken

SPREADS_CONNECTIONS = sys.platform == "linux"
"""Whether SO_REUSEPORT spreads connections over the sockets. Elsewhere it is missing, or gives all to one of them."""
ORPHANS_S = 2.0
"""Seconds for which a taken port is tried again: the workers of a server that was killed need a moment to let it go."""


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
