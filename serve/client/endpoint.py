"""A server and how to reach it: its address, TLS, and the caller's token.

Enters: values, or the command line and the environment. Leaves: an `Endpoint`, or ConfigError with the file that is
wrong. Does not know: gRPC, or which calls are made.
"""

import argparse
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from serve.errors import ConfigError

DEFAULT_ADDRESS = "127.0.0.1:50051"
ADDRESS_VARIABLE = "INKLING_ADDRESS"
FILE_FLAGS = {
    "tls_ca": "call over TLS; trust servers that the authorities in FILE, as PEM, have certified",
    "tls_cert": "call over TLS; show the server the certificate in FILE, as PEM; needs --tls-key",
    "tls_key": "use the private key in FILE, as PEM, for --tls-cert",
    "token_file": "send the token in FILE with each call",
}
"""Flags beside `--address`. Each has a variable in the environment, such as INKLING_TLS_CA, for its default."""
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
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call sends beside its message."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def check(self) -> None:
        """Raise ConfigError if a file cannot be used, or no header can carry the token."""
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
        ca, cert, key = (Path(text) if text else None for text in (self.tls_ca, self.tls_cert, self.tls_key))
        token = read_token(Path(self.token_file)) if self.token_file else ""
        return Endpoint(self.address, ca, cert, key, token)


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
