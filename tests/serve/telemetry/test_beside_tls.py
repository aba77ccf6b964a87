"""The HTTP port beside TLS and tokens, which probes and scrapes do not need; and the end of the certificate."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.client.client import Client
from serve.errors import CallError
from tests.certificates import DAY, Authority
from tests.serve.telemetry.running import Running, find, running
from tests.served import wait_until
from tests.support import Png

TOKEN = "alices-secret-of-many-letters"  # noqa: S105  # of this test
EXPIRY = "inkling_certificate_expiry_timestamp_seconds"
AUTHORITY = Authority.make("authority")


@pytest.fixture
def server(repository_folder: Path, tmp_path: Path) -> Iterator[Running]:
    """A server of two workers that asks for a certificate and a token; its own certificate lives ten days."""
    certificate, key = AUTHORITY.sign(lifetime=10 * DAY).write(tmp_path)
    AUTHORITY.write(tmp_path, "authority")
    (tmp_path / "tokens").write_text(f"alice {TOKEN}\n")
    flags = ["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", tmp_path / "authority.pem"]
    with running(repository_folder, "--workers", "2", "--tokens", str(tmp_path / "tokens"), *map(str, flags)) as server:
        assert server.address
        yield server


def test_probes_and_scrapes_need_neither_certificate_nor_token(server: Running, tmp_path: Path, png: Png) -> None:
    assert server.get("/healthz") == (200, "ok\n")
    assert server.get("/readyz") == (200, "ok\n")
    files = {
        "tls_ca": tmp_path / "authority.pem",
        "tls_cert": tmp_path / "server.pem",
        "tls_key": tmp_path / "server.key",
    }
    port = server.address.rpartition(":")[2]
    with Client(f"127.0.0.1:{port}", token=TOKEN, **files) as client:  # type: ignore[arg-type]
        client.classify(png(1), model="bands")
    with Client(f"127.0.0.1:{port}", **files) as client, pytest.raises(CallError, match=r"^UNAUTHENTICATED: "):  # type: ignore[arg-type]
        client.classify(png(1), model="bands")
    samples = server.scrape_until(lambda samples: find(samples, "inkling_requests_total", method="Classify") == 2)
    assert find(samples, "inkling_requests_total", code="OK", model="bands") == 1
    assert find(samples, "inkling_requests_total", code="UNAUTHENTICATED", model="unknown") == 1


def test_the_end_of_the_certificate_is_a_metric_that_follows_it_and_a_warning(server: Running, tmp_path: Path) -> None:
    samples = server.scrape_until(lambda samples: find(samples, EXPIRY) > 0)
    assert find(samples, EXPIRY) == pytest.approx(time.time() + 10 * 86_400, abs=120)
    server.wait_for(r"WARNING .*the certificate .* expires on ")
    AUTHORITY.sign(lifetime=90 * DAY).write(tmp_path)
    assert wait_until(lambda: find(server.scrape(), EXPIRY) > time.time() + 80 * 86_400, 10)
    assert sum(" expires on " in line for line in server.lines) == 1, "once, and not for each worker"
