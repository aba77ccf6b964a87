"""A server -> a gRPC channel to it. This is the one place that opens channels.

Enters: an endpoint, or an address alone. Leaves: a channel, for threads or for asyncio.
Does not know: which calls are made, or what they carry.

gRPC applies http_proxy to every host, also to this machine. Without the rule below, images for a local server would
leave the machine. A container with a proxy would ask it for its own health.
"""

import json
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, TypeAlias

import grpc

from serve.client.endpoint import Endpoint, to_endpoint

ChannelOptions: TypeAlias = Sequence[tuple[str, Any]]

OVERHEAD_BYTES = 64 * 2**10
"""Bytes of a call that gRPC buffers beside its message, rounded up."""

_RETRY = {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2}
RETRIED_CODES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED")
"""What another try may mend: no server or one that stops, and, after the pause that it asks for, a full one.

A server that stops cancels the calls that it has not begun. A call that its caller cancels is not retried.
"""

# A stream is opened again by the client, which knows what has been answered (`streams/unanswered.py`).
_STREAM = {"service": "inkling.v1.ClassifierService", "method": "StreamClassify"}


def open_channel(server: Endpoint | str, options: ChannelOptions = ()) -> grpc.Channel:
    """A channel for threads. It connects at its first call. Raises ConfigError if a file of the endpoint is wrong."""
    endpoint = to_endpoint(server)
    credentials = _make_credentials(endpoint)
    options = [*_options(endpoint), *options]
    if credentials:
        return grpc.secure_channel(endpoint.target, credentials, options)
    return grpc.insecure_channel(endpoint.target, options)


def open_aio_channel(server: Endpoint | str, options: ChannelOptions = ()) -> grpc.aio.Channel:
    """A channel for the running event loop. It connects at its first call. Raises ConfigError, as `open_channel`."""
    endpoint = to_endpoint(server)
    credentials = _make_credentials(endpoint)
    options = [*_options(endpoint), *options]
    if credentials:
        return grpc.aio.secure_channel(endpoint.target, credentials, options)
    return grpc.aio.insecure_channel(endpoint.target, options)


def make_call_options(
    server: Endpoint, max_message_bytes: int, retried: Sequence[str] = RETRIED_CODES
) -> ChannelOptions:
    """Options of a channel whose calls are retried, and are spread over the servers of its address.

    gRPC asks each of several servers for its health, and calls those that serve.
    """
    policy = {**_RETRY, "retryableStatusCodes": retried}
    config: dict[str, Any] = {"methodConfig": [{"name": [{}], "retryPolicy": policy}, {"name": [_STREAM]}]}
    if server.is_balanced:
        config |= {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
    return [
        ("grpc.service_config", json.dumps(config)),
        # gRPC does not retry a call that is larger than its buffer, which is 256 KiB by default.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes + OVERHEAD_BYTES),
    ]


def is_loopback(address: str) -> bool:
    """Whether an address is a loopback address, or the name `localhost`. Other names are not resolved."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def _make_credentials(endpoint: Endpoint) -> grpc.ChannelCredentials | None:
    """GRPC's credentials for TLS, None without it. They keep the files as they are now."""
    endpoint.check()
    if not endpoint.uses_tls:
        return None
    paths = (endpoint.tls_ca, endpoint.tls_key, endpoint.tls_cert)
    return grpc.ssl_channel_credentials(*(path.read_bytes() if path else None for path in paths))


def _options(endpoint: Endpoint) -> list[tuple[str, Any]]:
    """No limit on messages, a connection of its own for each channel, and no proxy to this machine."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),  # otherwise channels with equal options share one connection
    ]
    return options + ([("grpc.enable_http_proxy", 0)] if all(map(is_loopback, endpoint.hosts)) else [])
