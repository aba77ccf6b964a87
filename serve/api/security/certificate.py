"""The server's certificate with its private key, and the authorities of its clients' certificates, from PEM files.

Enters: paths. Leaves: a Pair that fits together and the time at which it expires, or ConfigError.
Does not know: gRPC, and when the files change.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from serve.errors import ConfigError

_UTC_TIME, _VERSION = 0x17, 0xA0
_LONG_FORM = 0x80
"""Bit of a DER length that is too large for one byte."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What a TLS server needs, as PEM."""

    certificate: bytes
    """The server's own certificate first, then those between it and its authority."""
    key: bytes = field(repr=False)
    client_ca: bytes | None
    """The authorities whose clients may connect; None lets everybody connect."""
    expires_s: float
    """When the server's own certificate expires, in seconds since 1970."""


def read_pair(certificate: Path, key: Path, client_ca: Path | None = None) -> Pair:
    """Read files that belong together. Raises ConfigError with the path if one is wrong, or the two do not match."""
    pair = Pair(
        certificate=_read_file("--tls-cert", certificate),
        key=_read_file("--tls-key", key),
        client_ca=_read_file("--tls-client-ca", client_ca) if client_ca else None,
        expires_s=_read_expiry(certificate),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")  # without one, OpenSSL would ask the terminal
    except OSError as error:  # SSLError is one
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            problem = f"{key} is not the private key of {certificate}"
        else:
            problem = f"wanted a certificate and a private key without a password in {certificate} and {key}"
        raise ConfigError(f"--tls-cert, --tls-key: {problem}{_explain(error)}") from error
    try:
        if client_ca:
            context.load_verify_locations(client_ca)
    except OSError as error:
        problem = f"wanted certificates of authorities in {client_ca}"
        raise ConfigError(f"--tls-client-ca: {problem}{_explain(error)}") from error
    return pair


def _explain(error: OSError) -> str:
    """OpenSSL's reason in words, if it has one."""
    reason = getattr(error, "reason", None)
    return f" ({reason.lower().replace('_', ' ')})" if reason else ""


def _read_file(flag: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{flag}: cannot read {path}; {error.strerror or error}") from error


def _read_expiry(path: Path) -> float:
    """When the first certificate of a PEM file expires. Raises ConfigError if there is none."""
    text = _read_file("--tls-cert", path).decode("ascii", "replace")
    _, begin, rest = text.partition(ssl.PEM_HEADER)
    body, end, _ = rest.partition(ssl.PEM_FOOTER)
    try:
        return find_expiry(ssl.PEM_cert_to_DER_cert(begin + body + end))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"--tls-cert: wanted a certificate as PEM in {path}, found none") from error


def find_expiry(certificate: bytes) -> float:
    """When a certificate in DER expires, in seconds since 1970. Raises ValueError or IndexError if it is none.

    RFC 5280, section 4.1: a Certificate begins with a TBSCertificate, whose elements are [version], serialNumber,
    signature, issuer, validity. The last is notBefore and notAfter, each a UTCTime or a GeneralizedTime.
    """
    (_, whole), *_ = _read_elements(certificate)
    (_, signed), *_ = _read_elements(whole)
    elements = [element for element in _read_elements(signed) if element[0] != _VERSION]
    _, (tag, not_after) = _read_elements(elements[3][1])
    text = not_after.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, from 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _read_elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of DER that follow each other: tag and content."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & _LONG_FORM:
            count = length - _LONG_FORM
            length, at = int.from_bytes(data[at : at + count]), at + count
        yield tag, data[at : at + length]
        at += length
