"""Who may call: tokens, TLS, client certificates, pages from elsewhere, and what every response tells a browser."""

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.serve.web.conftest import Ask
from tests.serve.web.doors import Door, ask, open_door
from tests.served import wait_until
from tests.support import Png, RunningServer

PATH = "/v1/models/bands:classify"
ALICES = "a-secret-of-many-letters"
AUTHORITY = Authority.make("authority")
Start = Callable[..., RunningServer]


def test_the_callers_token_is_handed_on(start_server: Start, repository_folder: Path, png: Png, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"alice {ALICES}\n")
    with open_door(start_server(repository_folder, tokens=file).address) as door:
        assert ask(door.url, PATH, png(), {"Authorization": f"Bearer {ALICES}"}).code == 200
        for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": f"Basic {ALICES}"}):
            answer = ask(door.url, PATH, png(), headers)
            assert (answer.code, answer.reason) == (401, "TOKEN_INVALID")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert ask(door.url, "/v1/models").code == 401
        assert ask(door.url, "/v2/models/bands").code == 401
        assert ask(door.url, "/").code == ask(door.url, "/openapi.json").code == 200
        assert ask(door.url, "/v2/health/ready").code == 200  # balancers have no token
        assert ALICES not in "".join(door.lines)


def test_the_door_is_served_over_tls_and_reaches_a_server_over_tls(
    start_server: Start, repository_folder: Path, png: Png, tmp_path: Path
) -> None:
    ca, _ = AUTHORITY.write(tmp_path, "authority")
    cert, key = AUTHORITY.sign().write(tmp_path)
    server = start_server(repository_folder, tls_cert=cert, tls_key=key)
    flags = ("--server-ca", str(ca), "--tls-cert", str(cert), "--tls-key", str(key))
    with open_door(server.address, *flags) as door:
        assert door.url.startswith("https://")
        assert ask(door.url, PATH, png(), trust=ca).code == 200


def read_serial(url: str, trust: Path) -> int:
    """The serial number of the certificate that a new connection gets."""
    from cryptography import x509

    host, _, port = url.removeprefix("https://").rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), ca_certs=str(trust))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_a_new_certificate_is_in_force_within_five_seconds(web_server: RunningServer, tmp_path: Path) -> None:
    ca, _ = AUTHORITY.write(tmp_path, "authority")
    cert, key = AUTHORITY.sign().write(tmp_path)
    with open_door(web_server.address, "--tls-cert", str(cert), "--tls-key", str(key)) as door:
        renewed = AUTHORITY.sign()
        assert read_serial(door.url, ca) != renewed.certificate.serial_number
        renewed.write(tmp_path)
        start_s = time.monotonic()
        assert wait_until(lambda: read_serial(door.url, ca) == renewed.certificate.serial_number)
        assert time.monotonic() - start_s < 5
        cert.write_text("no certificate")
        time.sleep(3)
        assert read_serial(door.url, ca) == renewed.certificate.serial_number
        assert any("what was read before stays in force" in line for line in door.lines)


def test_only_callers_with_a_certificate_come_in_if_they_need_one(
    web_server: RunningServer, png: Png, tmp_path: Path
) -> None:
    ca, _ = AUTHORITY.write(tmp_path, "authority")
    cert, key = AUTHORITY.sign().write(tmp_path)
    own = AUTHORITY.sign().write(tmp_path, "client")
    foreign = Authority.make("foreign").sign().write(tmp_path, "foreign")
    flags = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(ca))
    with open_door(web_server.address, *flags) as door:
        assert ask(door.url, PATH, png(), trust=ca, cert=own).code == 200
        for wrong in (None, foreign):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ask(door.url, PATH, png(), trust=ca, cert=wrong)


def test_every_response_tells_browsers_to_load_nothing_from_elsewhere(get: Ask, png: Png) -> None:
    answers = [get("/"), get("/docs"), get("/static/inkling.js"), get("/nothing"), get(PATH, png()), get(PATH, b"x")]
    for answer in answers:
        assert answer.headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    assert answers[4].headers["cache-control"] == "no-store"


def test_a_page_from_elsewhere_can_do_nothing(door: Door, get: Ask, png: Png) -> None:
    for path in (PATH, "/v2/repository/models/bands/unload"):
        answer = get(path, png(), {"Origin": "https://elsewhere.example"})
        assert answer.code == 403
    assert get(PATH, png(), {"Origin": door.url}).code == 200


def test_an_origin_that_is_named_may_call(web_server: RunningServer, png: Png) -> None:
    origin = "https://pictures.example"
    with open_door(web_server.address, "--cors-origins", f"{origin}, https://other.example") as door:
        answer = ask(door.url, PATH, png(), {"Origin": origin})
        assert answer.code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert ask(door.url, PATH, png(), {"Origin": "https://elsewhere.example"}).code == 403
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        allowed = ask(door.url, PATH, None, asked, method="OPTIONS")
        assert allowed.code == 200
        assert "POST" in allowed.headers["access-control-allow-methods"]


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/.."])
def test_no_file_but_those_of_the_page_is_given(get: Ask, path: str) -> None:
    answer = get(path)
    assert answer.code == 404
    assert json.loads(answer.body)["code"] == 5
