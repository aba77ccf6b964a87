"""The command line and the environment -> the settings of the door.

Enters: texts. Leaves: frozen settings, or the end of the process with a sentence. Does not know: what they do.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.client.endpoint import ADDRESS_VARIABLE, DEFAULT_ADDRESS, MAX_PORT, Endpoint
from serve.errors import ConfigError
from serve.program import name_program

DEFAULT_PORT = 8080
DEFAULT_BODY_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of the door."""

    address: list[str]
    server_ca: Path | None
    server_cert: Path | None
    server_key: Path | None
    host: str
    port: int
    listen_fd: int | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    cors_origins: str
    max_body_bytes: int
    body_timeout_s: int
    timeout_s: int
    max_requests: int
    lame_duck_s: int
    grace_s: int
    until_eof: bool
    log_format: str
    log_level: str

    @property
    def endpoints(self) -> list[Endpoint]:
        """The server, or each of its workers."""
        return [Endpoint(each, self.server_ca, self.server_cert, self.server_key) for each in self.address]

    @property
    def origins(self) -> list[str]:
        """The origins whose pages may call the door from a browser."""
        return self.cors_origins.replace(",", " ").split()


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """The settings of a command line. Raises ConfigError for two that do not fit together; `--help` exits."""
    given = vars(make_parser().parse_args(arguments))
    given["address"] = given["address"] or [os.environ.get(ADDRESS_VARIABLE, DEFAULT_ADDRESS)]
    options = Options(**given)
    for cert, key, flag in (
        (options.tls_cert, options.tls_key, "--tls"),
        (options.server_cert, options.server_key, "--server"),
    ):
        if (cert is None) != (key is None):
            raise ConfigError(f"{flag}-cert, {flag}-key: wanted both or neither; they make a pair")
    if options.tls_client_ca and not options.tls_cert:
        raise ConfigError("--tls-client-ca: wanted --tls-cert and --tls-key with it; callers are checked over TLS")
    return options


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog=name_program("serve.web"), description="Serve a page and an HTTP API in front of a gRPC server."
    )
    _add_server(parser)
    _add_listening(parser)
    _add_bounds(parser)
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="write each event as this (default: text)"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="log messages of this severity and above (default: info)",
    )
    return parser


def _add_server(parser: argparse.ArgumentParser) -> None:
    source = f"{ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS}"
    parser.add_argument(
        "--address",
        action="append",
        metavar="HOST:PORT",
        help=f"call the server there; given again, one more worker of the same server (default: {source})",
    )
    _add_file(parser, "--server-ca", "call the server over TLS; trust the authorities in FILE, as PEM")
    _add_file(parser, "--server-cert", "show the server the certificate in FILE; needs --server-key")
    _add_file(parser, "--server-key", "use the private key in FILE for --server-cert")


def _add_listening(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="listen on this address (default: 127.0.0.1)")
    _add_number(parser, "--port", DEFAULT_PORT, "listen on this port; 0 takes a free one and logs it", most=MAX_PORT)
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)  # a socket that the supervisor opened
    parser.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)  # stdin ends with the supervisor
    _add_file(parser, "--tls-cert", "serve over TLS with the certificate in FILE; read again when it changes")
    _add_file(parser, "--tls-key", "use the private key in FILE for --tls-cert")
    _add_file(parser, "--tls-client-ca", "accept only callers with a certificate of the authorities in FILE")
    parser.add_argument(
        "--cors-origins",
        default="",
        metavar="ORIGINS",
        help="let pages of these origins call from a browser, separated by commas; * is every one (default: none)",
    )


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    _add_number(parser, "--max-body-bytes", DEFAULT_BODY_BYTES, "accept bodies of at most this many bytes", least=1024)
    _add_number(parser, "--body-timeout-s", 30, "reject a body that does not come within this many seconds", least=1)
    _add_number(parser, "--timeout-s", 30, "wait this many seconds for the server's answer", least=1)
    _add_number(parser, "--max-requests", 256, "reject the next request when this many are under way", least=1)
    _add_number(parser, "--lame-duck-s", 0, "accept new requests for this many seconds after a stop signal")
    _add_number(parser, "--grace-s", 20, "give accepted requests this many seconds to finish")


def _add_file(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    parser.add_argument(flag, type=_to_path, metavar="FILE", help=f"{text} (default: none)")


def _add_number(
    parser: argparse.ArgumentParser, flag: str, default: int, text: str, *, least: int = 0, most: int = 2**31 - 1
) -> None:
    parser.add_argument(
        flag,
        type=_make_reader(least, most),
        default=default,
        metavar=flag.rpartition("-")[2].upper(),
        help=f"{text} (default: {default})",
    )


def _make_reader(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if text.isascii() and text.isdecimal() and len(text) < 12 and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"wanted a whole number from {least} to {most}, got {text!r}")

    return read


def _to_path(text: str) -> Path | None:
    return Path(text) if text else None
