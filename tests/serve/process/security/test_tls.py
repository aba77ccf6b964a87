"""A server over TLS: whom it lets in, what a client is told, and certificates that change while it serves."""

import socket
import ssl
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from serve.client import health
from serve.client.client import Client
from serve.client.endpoint import Endpoint
from serve.errors import CallError
from tests.certificates import DAY, Authority, Signed
from tests.support import Png, RunningServer

AUTHORITY = Authority.make("authority")
FOREIGN = Authority.make("foreign authority")
IN_FORCE_S = 5.0
"""Seconds after which a new certificate is in force, as the documentation says."""
Start = Callable[..., RunningServer]


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The file of the authority that clients trust."""
    return AUTHORITY.write(tmp_path, "authority")[0]


@pytest.fixture
def foreign_ca(tmp_path: Path) -> Path:
    """The file of an authority that has certified nothing here."""
    return FOREIGN.write(tmp_path, "foreign-authority")[0]


@pytest.fixture
def start(start_server: Start, repository_folder: Path, tmp_path: Path) -> Start:
    """A function that starts a server over TLS, with a certificate of the authority unless another is given."""

    def start(signed: Signed | None = None, **settings: object) -> RunningServer:
        certificate, key = (signed or AUTHORITY.sign()).write(tmp_path)
        return start_server(repository_folder, tls_cert=certificate, tls_key=key, **settings)

    return start


def find_serial(address: str, ca: Path) -> int:
    """The number of the certificate that a new connection gets, after a whole handshake."""
    host, _, port = address.rpartition(":")
    context = Endpoint(address, tls_ca=ca).make_context()
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.recv(1)
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number


def fail_with(address: str, **settings: object) -> str:
    """What a client is told whose call finds no server."""
    with Client(address, **settings) as client, pytest.raises(CallError) as caught:  # type: ignore[arg-type]
        client.list_models()
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "TLS_FAILED")
    return caught.value.message


def test_a_client_that_trusts_the_authority_is_answered(start: Start, ca: Path, png: Png) -> None:
    server = start()
    with Client(server.address, tls_ca=ca) as client:
        client.wait_until_ready(10)
        assert client.classify(png(1), model="bands").best.label == "middle"
    assert health.ask(Endpoint(server.address, tls_ca=ca), "bands", timeout_s=10) == "SERVING"


def test_a_client_without_tls_is_told_so(start: Start) -> None:
    server = start()
    wanted = f"the server at {server.address} speaks TLS: wanted its authorities (tls_ca), got none"
    assert fail_with(server.address) == wanted
    with Client(server.address) as client, pytest.raises(CallError, match="speaks TLS"):
        client.wait_until_ready(1)


def test_a_client_with_tls_is_told_of_a_server_without(server: RunningServer, ca: Path) -> None:
    wanted = f"the server at {server.address} does not speak TLS: wanted a call without tls_ca and tls_cert"
    assert fail_with(server.address, tls_ca=ca) == wanted


def test_the_commands_say_it_in_one_line(
    start: Start, ca: Path, foreign_ca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = start().address
    assert health.main(["--address", address, "--tls-ca", str(ca)]) == 0
    assert capsys.readouterr().out == "SERVING\n"
    assert health.main(["--address", address]) == 1
    assert capsys.readouterr() == (
        "UNAVAILABLE\n",
        f"serve.health: the server at {address} speaks TLS: wanted its authorities (tls_ca), got none\n",
    )
    assert health.main(["--address", address, "--tls-ca", str(foreign_ca)]) == 1
    assert "is not accepted" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        health.main(["--address", address, "--tls-ca", str(tmp_path / "none")])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("serve.health: TLS: wanted certificates of authorities in ")


def test_a_certificate_of_a_foreign_authority_is_not_accepted(start: Start, foreign_ca: Path) -> None:
    message = fail_with(start().address, tls_ca=foreign_ca)
    assert "is not accepted: unable to get local issuer certificate" in message


def test_an_expired_certificate_is_not_accepted(start: Start, ca: Path) -> None:
    assert "is not accepted: certificate has expired" in fail_with(
        start(AUTHORITY.sign(lifetime=-DAY)).address, tls_ca=ca
    )


def test_without_authorities_in_the_settings_those_of_grpc_are_trusted(start: Start, tmp_path: Path) -> None:
    """TLS by the client's certificate alone: the server's is from an authority that nobody else knows."""
    certificate, key = AUTHORITY.sign("client").write(tmp_path, "client")
    assert "is not accepted" in fail_with(start().address, tls_cert=certificate, tls_key=key)


@pytest.fixture
def mutual(start: Start, ca: Path) -> RunningServer:
    """A server that lets in only clients with a certificate of the authority."""
    return start(tls_client_ca=ca)


def test_a_client_with_a_certificate_that_is_asked_for_is_answered(
    mutual: RunningServer, ca: Path, tmp_path: Path, png: Png
) -> None:
    certificate, key = AUTHORITY.sign("client").write(tmp_path, "client")
    with Client(mutual.address, tls_ca=ca, tls_cert=certificate, tls_key=key) as client:
        assert client.classify(png(2), model="bands").best.label == "bottom"


def test_a_client_without_the_certificate_that_is_asked_for_is_told_so(mutual: RunningServer, ca: Path) -> None:
    message = fail_with(mutual.address, tls_ca=ca)
    assert message.endswith(" asks for a certificate of the client: wanted one (tls_cert), got none")


@pytest.mark.parametrize("signed", [FOREIGN.sign("client"), AUTHORITY.sign("client", -DAY)], ids=["foreign", "expired"])
def test_a_client_with_a_certificate_that_does_not_count_is_told_so(
    mutual: RunningServer, ca: Path, tmp_path: Path, signed: Signed
) -> None:
    certificate, key = signed.write(tmp_path, "client")
    message = fail_with(mutual.address, tls_ca=ca, tls_cert=certificate, tls_key=key)
    assert message.endswith(" asks for a certificate of the client: wanted another than that in tls_cert")


def test_new_authorities_of_clients_are_in_force_in_time(
    mutual: RunningServer, ca: Path, foreign_ca: Path, tmp_path: Path
) -> None:
    certificate, key = FOREIGN.sign("client").write(tmp_path, "client")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ca.read_bytes())
    ca.write_bytes(foreign_ca.read_bytes())
    endpoint = Endpoint(mutual.address, trusted, certificate, key)
    ends_s = time.monotonic() + IN_FORCE_S
    while health.ask(endpoint, "", timeout_s=1) != "SERVING":
        assert time.monotonic() < ends_s


@pytest.mark.slow
def test_new_certificates_are_in_force_in_time_and_no_handshake_or_call_fails(
    start: Start, ca: Path, tmp_path: Path, png: Png
) -> None:
    """Five pairs, each with a moment of a pair that does not match before it, under handshakes and calls."""
    server = start()
    stop = threading.Event()
    failures: list[Exception] = []
    serials: Counter[int] = Counter()
    answers: Counter[str] = Counter()

    def shake_hands() -> None:
        while not stop.is_set():
            try:
                serials[find_serial(server.address, ca)] += 1
            except (OSError, AssertionError) as error:
                failures.append(error)

    def call() -> None:
        with Client(server.address, tls_ca=ca) as client:
            while not stop.is_set():
                try:
                    answers[client.classify(png(1), model="bands").best.label] += 1
                except CallError as error:
                    failures.append(error)

    threads = [threading.Thread(target=each) for each in (shake_hands, shake_hands, call)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            signed = AUTHORITY.sign()
            (tmp_path / "server.pem").write_bytes(signed.pem)
            time.sleep(2.5)  # the pair is looked at, and does not match
            assert signed.certificate.serial_number not in serials
            (tmp_path / "server.key").write_bytes(signed.key_pem)
            time.sleep(IN_FORCE_S)
            # As many connections as reach each of the server's listeners, but for chance.
            found = Counter(find_serial(server.address, ca) for _ in range(100))
            assert found == {signed.certificate.serial_number: 100}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert serials.total() > 100
    assert answers.total() > 100
    assert set(answers) == {"middle"}


@pytest.mark.slow
def test_a_broken_or_missing_file_leaves_the_old_pair_in_force(start: Start, ca: Path, tmp_path: Path) -> None:
    """A broken file, and then none at all."""
    server = start()
    serial = find_serial(server.address, ca)
    (tmp_path / "server.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    time.sleep(2.5)
    assert find_serial(server.address, ca) == serial
    (tmp_path / "server.pem").unlink()
    time.sleep(2.5)
    assert find_serial(server.address, ca) == serial


def test_old_versions_of_tls_are_refused(start: Start, ca: Path) -> None:
    server = start()
    context = Endpoint(server.address, tls_ca=ca).make_context()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of the old versions themselves
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=host)
