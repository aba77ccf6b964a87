"""The address of a server -> a gRPC channel to it. This is the one place that finds addresses and opens channels.

Enters: `host:port`, or the command line and the environment. Leaves: a channel, for threads or for asyncio.
Does not know: which calls are made, or what they carry.

gRPC applies http_proxy to every host, also to this machine. Without the rule below, images for a local server would
leave the machine. A container with a proxy would ask it for its own health.
"""

import argparse
import os
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, TypeAlias

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
ADDRESS_VARIABLE = "INKLING_ADDRESS"

ChannelOptions: TypeAlias = Sequence[tuple[str, Any]]


def add_address_flag(parser: argparse.ArgumentParser, *, port_variable: str = "") -> None:
    """Add `--address`. Its default is the port in `port_variable` on this machine, else INKLING_ADDRESS, else 50051."""
    address, source = os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS), f"{ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS}"
    if port_variable:
        source = f"port {port_variable} of this machine, else {source}"
        if port := os.environ.get(port_variable):
            address = f"127.0.0.1:{port}"
    parser.add_argument(
        "--address", default=address, metavar="HOST:PORT", help=f"call the server at HOST:PORT (default: {source})"
    )


def open_channel(address: str, options: ChannelOptions = ()) -> grpc.Channel:
    """A channel for threads. It connects at its first call."""
    return grpc.insecure_channel(address, options=[*_options(address), *options])


def open_aio_channel(address: str) -> grpc.aio.Channel:
    """A channel for the running event loop. It connects at its first call."""
    return grpc.aio.insecure_channel(address, options=_options(address))


def is_loopback(address: str) -> bool:
    """Whether an address is a loopback address, or the name `localhost`. Other names are not resolved."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def _options(address: str) -> list[tuple[str, Any]]:
    """No limit on messages, a connection of its own for each channel, and no proxy to this machine."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),  # otherwise channels with equal options share one connection
    ]
    return options + ([("grpc.enable_http_proxy", 0)] if is_loopback(address) else [])
