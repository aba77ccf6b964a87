"""`python -m serve.health [SERVICE]`: ask grpc.health.v1 whether a server serves; exit code 0 if it does.

Enters: a service or model name, and an address. Leaves: one word and an exit code. What a container's HEALTHCHECK
runs, since the image holds no other gRPC tool. Does not know: anything of Inkling's own API.
"""

import argparse
import os
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serve.client.channel import limit_proxy


def ask(address: str, service: str, timeout_s: float) -> str:
    """The serving status by name, or the status code of a call that failed."""
    with grpc.insecure_channel(address, options=limit_proxy(address)) as channel:
        check: Any = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # set in its __init__
        try:
            reply = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def main() -> int:
    """Print the status; 0 for SERVING, else 1."""
    port = os.environ.get("INKLING_SERVE_PORT", "50051")
    parser = argparse.ArgumentParser(prog="python -m serve.health", description="Ask a server for its health.")
    parser.add_argument("service", nargs="?", default="", help="a model's name (default: the whole server)")
    parser.add_argument("--address", default=f"127.0.0.1:{port}", help="host:port (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=2, metavar="S", help="seconds to wait (default: 2)")
    options = parser.parse_args()
    status = ask(options.address, options.service, options.timeout)
    print(status)
    return 0 if status == "SERVING" else 1
