"""The address of a server -> whether calls to it may go through the proxy that the environment names.

Enters: `host:port`. Leaves: options of a gRPC channel. Does not know: gRPC itself, what is called.

gRPC obeys http_proxy for every host, this machine too: a container that is given a proxy would ask that for its own
health, and images for a server beside the client would leave the machine.
"""

from ipaddress import ip_address


def limit_proxy(address: str) -> list[tuple[str, int]]:
    """No proxy to this machine; elsewhere, what http_proxy and no_proxy say."""
    return [("grpc.enable_http_proxy", 0)] if is_here(address) else []


def is_here(address: str) -> bool:
    """Whether an address is one of this machine to itself; a name is looked up by nobody but gRPC."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name
        return False
