"""The methods of a service -> a grpc.aio server that finds them by name, and has none of them registered.

Enters: what generated code would tell a server. Leaves: less of it, told to one. Does not know: services, messages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc


class Registrar:
    """Stands before a grpc.aio server for generated code, and registers nothing.

    At each call grpc.aio waits for the next one of every method that is registered, so each costs all calls: nine of
    them a twentieth of a call to `mnist-cnn`.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """All methods of a service, by name."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        """The same ones again, which are left out."""
