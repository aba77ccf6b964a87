"""serve.process.listening.port: one port for several sockets of ours, and for nobody else's."""

import socket

import pytest

from serve.errors import ConfigError
from serve.process.listening.port import reserve_port


def listen(port: int) -> socket.socket:
    """A socket that would share its port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_a_port_of_another_server_is_refused_even_if_it_could_be_shared() -> None:
    with listen(0) as other, pytest.raises(ConfigError, match="cannot listen"):
        reserve_port("127.0.0.1", other.getsockname()[1])


def test_those_who_share_a_reserved_port_may_listen_on_it() -> None:
    with reserve_port("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
        with listen(port), listen(port), socket.create_connection(("127.0.0.1", port)):
            pass
