"""`python -m serve.health [SERVICE]`: ask grpc.health.v1 whether a server serves; exit code 0 if it does.

Enters: a service or model name, and an address. Leaves: one word and an exit code.
Does not know: Inkling's own API. A container's HEALTHCHECK runs this command, since the image has no other gRPC tool.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.client.channel import open_channel
from serve.client.endpoint import ConnectionFlags, Endpoint, add_connection_flags, to_endpoint
from serve.client.handshake import explain_failure
from serve.errors import ConfigError
from serve.flags import read_text
from serve.program import name_program


@dataclass(frozen=True, slots=True)
class Options(ConnectionFlags):
    """The command line."""

    service: str
    timeout: float


def ask(server: Endpoint | str, service: str, timeout_s: float) -> str:
    """The serving status by name, or the canonical status code of a failed call. Raises ConfigError."""
    endpoint = to_endpoint(server)
    with open_channel(endpoint) as channel:
        check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # set in its __init__
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            reply = check(request, timeout=timeout_s, metadata=endpoint.metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the status. Exit code 0 for SERVING, else 1; 2 for a file of TLS or a token that cannot be used."""
    options = Options(**vars(_parser().parse_args(arguments)))
    try:
        endpoint = options.read_endpoint()
        status = ask(endpoint, options.service, options.timeout)
    except ConfigError as error:
        _parser().exit(2, f"serve.health: {error}\n")
    print(status)
    if status == "UNAVAILABLE" and (reason := explain_failure(endpoint)):
        print(f"serve.health: {reason}", file=sys.stderr)
    return 0 if status == "SERVING" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name_program("serve.health"), description="Ask a server for its health.")
    service = "ask for one model by name (default: the whole server)"
    parser.add_argument("service", type=read_text, nargs="?", default="", help=service)
    # In the image, the variable has the port of the container's own server.
    add_connection_flags(parser, port_variable="INKLING_SERVE_PORT")
    parser.add_argument("--timeout", type=float, default=2, metavar="S", help="wait up to S seconds (default: 2)")
    return parser
