"""serve.api.security.certificate: files that make a pair are taken, others are refused with their path."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from serve.api.security.certificate import find_expiry, read_pair
from serve.errors import ConfigError
from tests.certificates import Authority

AUTHORITY = Authority.make("authority")
SERVER = AUTHORITY.sign()


def make_der(expires: datetime, serial: int, issuer_length: int) -> bytes:
    """A certificate whose fields before the time of its end have other lengths than usual."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60)] * issuer_length
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "name"), *attributes])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(serial).not_valid_before(datetime(1955, 1, 1)).not_valid_after(expires)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "expires",
    [
        datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2050, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
)
@pytest.mark.parametrize(("serial", "issuer_length"), [(1, 0), (2**158, 1), (2**64, 5), (200, 2000)])
def test_the_time_of_its_end_is_found_in_any_certificate(expires: datetime, serial: int, issuer_length: int) -> None:
    assert find_expiry(make_der(expires, serial, issuer_length)) == expires.timestamp()


def test_the_pair_has_the_bytes_of_its_files_and_does_not_show_the_key(tmp_path: Path) -> None:
    authorities, _ = AUTHORITY.write(tmp_path, "authority")
    pair = read_pair(*SERVER.write(tmp_path), authorities)
    assert (pair.certificate, pair.key, pair.client_ca) == (SERVER.pem, SERVER.key_pem, AUTHORITY.pem)
    assert pair.expires_s == SERVER.certificate.not_valid_after_utc.timestamp()
    assert SERVER.key_pem.decode().splitlines()[1] not in repr(pair)


def test_the_certificate_of_the_server_is_the_first_of_its_chain(tmp_path: Path) -> None:
    certificate, key = SERVER.write(tmp_path)
    certificate.write_bytes(b"subject=localhost\n" + SERVER.pem + AUTHORITY.pem)
    assert read_pair(certificate, key).expires_s == SERVER.certificate.not_valid_after_utc.timestamp()


def test_one_file_may_have_both(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(SERVER.key_pem + SERVER.pem)
    assert read_pair(both, both).expires_s == SERVER.certificate.not_valid_after_utc.timestamp()


@pytest.mark.parametrize("name", ["server.pem", "server.key", "authority.pem"])
@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, name: str, kind: str) -> None:
    certificate, key = SERVER.write(tmp_path)
    authorities, _ = AUTHORITY.write(tmp_path, "authority")
    (tmp_path / name).unlink()
    if kind == "a folder":
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"^--tls-.*: cannot read {tmp_path / name}; "):
        read_pair(certificate, key, authorities)


NO_PAIR = "wanted a certificate and a private key without a password in {certificate} and {key}"


@pytest.mark.parametrize(
    ("key_text", "problem"),
    [
        (AUTHORITY.sign().key_pem, "{key} is not the private key of {certificate} (key values mismatch)"),
        (b"", NO_PAIR),
        (SERVER.pem, NO_PAIR),
        (SERVER.encrypt_key(b"secret"), NO_PAIR),
    ],
    ids=["another key", "an empty key", "a certificate for a key", "a key behind a password"],
)
def test_what_makes_no_pair_is_an_error_that_names_both(tmp_path: Path, key_text: bytes, problem: str) -> None:
    certificate, key = SERVER.write(tmp_path)
    key.write_bytes(key_text)
    with pytest.raises(ConfigError) as caught:
        read_pair(certificate, key)
    assert str(caught.value) == "--tls-cert, --tls-key: " + problem.format(certificate=certificate, key=key)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        SERVER.key_pem,
        SERVER.pem[:200],
        b"\xff\xfe",
        ssl.DER_cert_to_PEM_cert(b"0").encode(),
        ssl.DER_cert_to_PEM_cert(b"\x30\x03\x30\x01\x30").encode(),
    ],
)
def test_a_file_without_a_certificate_is_an_error_that_names_it(tmp_path: Path, text: bytes) -> None:
    certificate, key = SERVER.write(tmp_path)
    certificate.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_pair(certificate, key)
    assert str(caught.value) == f"--tls-cert: wanted a certificate as PEM in {certificate}, found none"


@pytest.mark.parametrize("text", [b"", SERVER.key_pem, b"authority"])
def test_a_file_without_authorities_is_an_error_that_names_it(tmp_path: Path, text: bytes) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(text)
    with pytest.raises(ConfigError, match=f"^--tls-client-ca: wanted certificates of authorities in {authorities}"):
        read_pair(*SERVER.write(tmp_path), authorities)


def test_an_expired_certificate_is_taken_for_a_client_may_not_mind(tmp_path: Path) -> None:
    pair = read_pair(*AUTHORITY.sign(lifetime=timedelta(days=-1)).write(tmp_path))
    assert pair.expires_s < datetime.now(UTC).timestamp()
