"""The methods of a service -> those that are called often registered with a grpc.aio server, the others found by name.

Enters: what generated code would tell a server. Leaves: less of it, told to one. Does not know: services, messages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc


class Registrar:
    """Stands before a grpc.aio server for generated code: registers some methods, the others are found by name.

    At each call grpc.aio waits for the next one of every method that is registered, so each costs all calls: nine of
    them a twentieth of a call to `mnist-cnn`.
    """

    def __init__(self, server: grpc.aio.Server, registered: set[str]) -> None:
        self._server = server
        self._registered = registered

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """All methods of a service."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        """The same ones by name, of which few are taken."""
        taken = {name: handler for name, handler in handlers.items() if name in self._registered}
        self._server.add_registered_method_handlers(service, taken)
