"""A port that several sockets share, and nobody else.

Enters: a host and a port. Leaves: a socket that holds the port and listens to nobody, or ConfigError.
Does not know: gRPC, and who shares: the servers of one process (`server.py`), processes (`supervisor.py`).
"""

import errno
import socket
import sys

from serve.errors import ConfigError, PortTaken

# Elsewhere SO_REUSEPORT is missing, or gives all connections to one of the sockets.
SPREADS_CONNECTIONS = sys.platform == "linux"


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that holds the port for those who share it; port 0 becomes a free one.

    Raises PortTaken if something else has the port: with SO_REUSEPORT alone two servers would share it silently.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            port = probe.getsockname()[1]
        holder = socket.socket(family, socket.SOCK_STREAM)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError as error:
        raise explain("--host, --port", host, port, error) from error
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
