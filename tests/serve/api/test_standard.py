"""serve.api.standard: methods that are found by name, on a real grpc.aio server."""

import asyncio

import grpc

from serve.api.gate import CallGate
from serve.api.standard import Registrar


class Spy:
    """What a server is told, and the server itself."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.server = server
        self.registered: list[str] = []
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        """Remember them, and tell the server."""
        self.registered += handlers
        self.server.add_registered_method_handlers(service, handlers)


async def ask() -> tuple[list[str], bytes]:
    """Which methods were registered, and what one answers."""

    async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return b"answered " + request

    server = Spy(grpc.aio.server())
    gate = CallGate()
    registrar = Registrar(server, gate)  # type: ignore[arg-type]  # a Spy is a server here
    handlers = {"Seldom": grpc.unary_unary_rpc_method_handler(answer)}
    registrar.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    registrar.add_registered_method_handlers("test.Service", handlers)
    port = server.server.add_insecure_port("127.0.0.1:0")
    await server.server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply = await channel.unary_unary("/test.Service/Seldom")(b"this")
    await server.server.stop(None)
    assert gate.call_count == 1
    return server.registered, reply


def test_a_method_answers_without_being_registered() -> None:
    assert asyncio.run(ask()) == ([], b"answered this")
