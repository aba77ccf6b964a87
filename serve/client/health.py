"""`python -m serve.health [SERVICE]`: ask grpc.health.v1 whether a server serves; exit code 0 if it does.

Enters: a service or model name, and an address. Leaves: one word and an exit code.
Does not know: Inkling's own API. A container's HEALTHCHECK runs this command, since the image has no other gRPC tool.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.client.channel import add_address_flag, open_channel


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    service: str
    address: str
    timeout: float


def ask(address: str, service: str, timeout_s: float) -> str:
    """The serving status by name, or the canonical status code of a failed call."""
    with open_channel(address) as channel:
        check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # set in its __init__
        try:
            reply = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the status. Exit code 0 for SERVING, else 1."""
    options = Options(**vars(_parser().parse_args(arguments)))
    status = ask(options.address, options.service, options.timeout)
    print(status)
    return 0 if status == "SERVING" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.health", description="Ask a server for its health.")
    parser.add_argument("service", nargs="?", default="", help="ask for one model by name (default: the whole server)")
    add_address_flag(parser, port_variable="INKLING_SERVE_PORT")  # in the image, the port of the container's own server
    parser.add_argument("--timeout", type=float, default=2, metavar="S", help="wait up to S seconds (default: 2)")
    return parser
