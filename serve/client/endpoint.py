"""A server and how to reach it: its address, TLS, and the caller's token.

Enters: values, or the command line and the environment. Leaves: an `Endpoint`, or ConfigError with the file that is
wrong. Does not know: gRPC, or which calls are made.
"""

import argparse
import os
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from serve.errors import ConfigError, quote
from serve.flags import is_utf_8

DEFAULT_ADDRESS = "127.0.0.1:50051"
ADDRESS_VARIABLE = "INKLING_ADDRESS"
FILE_FLAGS = {
    "tls_ca": "call over TLS; trust servers that the authorities in FILE, as PEM, have certified",
    "tls_cert": "call over TLS; show the server the certificate in FILE, as PEM; needs --tls-key",
    "tls_key": "use the private key in FILE, as PEM, for --tls-cert",
    "token_file": "send the token in FILE with each call",
}
"""Flags beside `--address`. Each has a variable in the environment, such as INKLING_TLS_CA, for its default."""
BALANCED_SCHEMES = ("dns:", "ipv4:", "ipv6:")
"""Schemes of gRPC's names that may stand for several servers."""
_SCHEME = re.compile(r"(?:dns:(?://[^/]*/)?|ipv4:|ipv6:)")
_OTHER_SCHEME = re.compile(r"(?:unix|unix-abstract|vsock|xds|google-c2p):")
MAX_PORT = 65535
_TOKEN = re.compile(r"[!-~]+")
"""What a header can carry without quotes: printable ASCII without spaces."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server. With `tls_ca` or `tls_cert`, calls go over TLS. With a token, each call carries it."""

    address: str
    tls_ca: Path | None = None
    """The authorities of the server's certificate, as PEM. With None, TLS trusts those that come with gRPC."""
    tls_cert: Path | None = None
    """The client's own certificate, for servers that ask for one."""
    tls_key: Path | None = None
    token: str = field(default="", repr=False)

    @property
    def uses_tls(self) -> bool:
        """Whether calls go over TLS."""
        return bool(self.tls_ca or self.tls_cert)

    @property
    def hosts(self) -> list[str]:
        """Each HOST:PORT of the address, without gRPC's scheme. Empty for a scheme without hosts, such as `unix:`."""
        return [] if _OTHER_SCHEME.match(self.address) else _SCHEME.sub("", self.address, count=1).split(",")

    @property
    def is_balanced(self) -> bool:
        """Whether the address may stand for several servers, over which calls are to be spread."""
        return self.address.startswith(BALANCED_SCHEMES) or len(self.hosts) > 1

    @property
    def target(self) -> str:
        """The address as gRPC takes it: several IP addresses need a scheme."""
        if len(self.hosts) < 2 or _SCHEME.match(self.address):
            return self.address
        return ("ipv6:" if self.address.startswith("[") else "ipv4:") + self.address

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call sends beside its message."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def check(self) -> None:
        """Raise ConfigError if the address or a file cannot be used, or no header can carry the token."""
        if not is_utf_8(self.address):
            raise ConfigError(f"address: wanted HOST:PORT in UTF-8, got {quote(self.address)}")
        for host in self.hosts:
            check_host(host)
        if len(self.hosts) > 1:
            check_are_addresses(self.hosts)
            if self.uses_tls:  # gRPC would compare the certificate with the whole list
                raise ConfigError("address: wanted one name of all servers as dns:///HOST:PORT for TLS, got several")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("TLS: wanted a certificate with its private key (tls_cert, tls_key), got one of them")
        if self.token and not _TOKEN.fullmatch(self.token):
            raise ConfigError("token: wanted printable ASCII without spaces, got other characters")
        if self.uses_tls:
            self.make_context()

    def make_context(self) -> ssl.SSLContext:
        """What Python needs to connect as gRPC does. Raises ConfigError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        ca, cert, key = self.tls_ca, self.tls_cert, self.tls_key
        if ca:
            _load(f"certificates of authorities in {ca}", lambda: context.load_verify_locations(ca))
        else:
            context.load_default_certs()
        if cert:  # without a password, OpenSSL would ask the terminal for one
            _load(f"a certificate and its key in {cert} and {key}", lambda: context.load_cert_chain(cert, key, ""))
        return context


def check_host(text: str) -> None:
    """Raise ConfigError if a text is not a host and a port."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= MAX_PORT):
        raise ConfigError(f"address: wanted HOST:PORT with a port from 1 to {MAX_PORT}, got {quote(text)}")


def check_are_addresses(hosts: Sequence[str]) -> None:
    """Raise ConfigError if several hosts are not IP addresses of one version: gRPC takes no list of names."""
    try:
        versions = {ip_address(host.rpartition(":")[0].strip("[]")).version for host in hosts}
    except ValueError:
        versions = set()
    if len(versions) != 1:
        raise ConfigError(
            "address: wanted several IP addresses of one version, or one name of them all as dns:///HOST:PORT, "
            f"got {quote(','.join(hosts))}"
        )


def make_endpoint(
    address: str,
    tls_ca: str | Path | None,
    tls_cert: str | Path | None,
    tls_key: str | Path | None,
    token: str,
) -> Endpoint:
    """An endpoint of paths that may be texts."""
    ca, cert, key = (Path(path) if path else None for path in (tls_ca, tls_cert, tls_key))
    return Endpoint(address, ca, cert, key, token)


def to_endpoint(server: Endpoint | str) -> Endpoint:
    """An address alone is an endpoint without TLS and token."""
    return Endpoint(server) if isinstance(server, str) else server


@dataclass(frozen=True, slots=True)
class ConnectionFlags:
    """The flags that `add_connection_flags` adds: the part of a command's options that says how to reach a server."""

    address: str
    tls_ca: str
    tls_cert: str
    tls_key: str
    token_file: str

    def read_endpoint(self) -> Endpoint:
        """The server that the flags name, with the token from its file. Raises ConfigError."""
        token = read_token(Path(self.token_file)) if self.token_file else ""
        return make_endpoint(self.address, self.tls_ca, self.tls_cert, self.tls_key, token)


def add_connection_flags(parser: argparse.ArgumentParser, *, port_variable: str = "") -> None:
    """Add the fields of ConnectionFlags.

    The default of `--address` is the port in `port_variable` on this machine, else INKLING_ADDRESS, else 50051.
    """
    address, source = os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS), f"{ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS}"
    if port_variable:
        source = f"port {port_variable} of this machine, else {source}"
        if port := os.environ.get(port_variable):
            address = f"127.0.0.1:{port}"
    parser.add_argument(
        "--address", default=address, metavar="HOST:PORT", help=f"call the server at HOST:PORT (default: {source})"
    )
    for name, help_text in FILE_FLAGS.items():
        variable = f"INKLING_{name.upper()}"
        flag, default = "--" + name.replace("_", "-"), os.environ.get(variable, "")
        parser.add_argument(flag, default=default, metavar="FILE", help=f"{help_text} (default: {variable})")


def read_token(path: Path) -> str:
    """The token in a file that has nothing else. Raises ConfigError, which does not tell it."""
    try:
        token = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text"
        raise ConfigError(f"--token-file: cannot read {path}; {reason}") from None
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"--token-file: wanted nothing but a token in {path}: printable ASCII without spaces")
    return token


def _load(wanted: str, load: Callable[[], object]) -> None:
    try:
        load()
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "they are not there"
        raise ConfigError(f"TLS: wanted {wanted}; {reason}") from error
