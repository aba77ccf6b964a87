"""Certificates made on the fly: authorities, and what they sign, as PEM files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def encrypt_key(self, password: bytes) -> bytes:
        """The private key behind a password."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))

    def write(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Write both into a folder: the paths of the certificate and the key."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.pem)
        key.write_bytes(self.key_pem)
        return certificate, key


@dataclass(frozen=True)
class Authority(Signed):
    """A certificate that signs others."""

    @classmethod
    def make(cls, name: str) -> Self:
        """A new one, signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _describe(_to_name(name), _to_name(name), key, 365 * DAY)
        return cls(builder.add_extension(_may_sign(True), critical=True).sign(key, hashes.SHA256()), key)

    def sign(self, name: str = "localhost", lifetime: timedelta = 90 * DAY) -> Signed:
        """A new certificate for this machine, by the names that tests call it; negative lifetimes have passed."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        builder = _describe(_to_name(name), self.certificate.subject, key, lifetime)
        builder = builder.add_extension(_may_sign(False), critical=True).add_extension(names, critical=False)
        return Signed(builder.sign(self.key, hashes.SHA256()), key)


def _to_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _may_sign(is_authority: bool) -> x509.BasicConstraints:
    return x509.BasicConstraints(ca=is_authority, path_length=None)


def _describe(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - 400 * DAY).not_valid_after(now + lifetime)
