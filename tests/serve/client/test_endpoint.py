"""serve.client.endpoint: address, TLS and token come from flags or the environment, and are checked before a call."""

import argparse
from pathlib import Path

import pytest

from serve.client.client import Client
from serve.client.endpoint import ConnectionFlags, Endpoint, add_connection_flags, read_token
from serve.errors import ConfigError
from tests.certificates import Authority

VARIABLES = ("ADDRESS", "SERVE_PORT", "TLS_CA", "TLS_CERT", "TLS_KEY", "TOKEN_FILE")
AUTHORITY = Authority.make("authority")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables is set."""
    for name in VARIABLES:
        monkeypatch.delenv(f"INKLING_{name}", raising=False)


def read_flags(*arguments: str) -> ConnectionFlags:
    """The flags of a command line."""
    parser = argparse.ArgumentParser()
    add_connection_flags(parser, port_variable="INKLING_SERVE_PORT")
    return ConnectionFlags(**vars(parser.parse_args(arguments)))


@pytest.mark.parametrize(
    ("environment", "arguments", "address"),
    [
        ({}, [], "127.0.0.1:50051"),
        ({"INKLING_ADDRESS": "there:1"}, [], "there:1"),
        ({"INKLING_ADDRESS": "there:1", "INKLING_SERVE_PORT": "2"}, [], "127.0.0.1:2"),
        ({"INKLING_ADDRESS": "there:1", "INKLING_SERVE_PORT": "2"}, ["--address", "[::1]:3"], "[::1]:3"),
    ],
)
def test_the_address_is_the_flag_else_a_port_else_a_variable_else_50051(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], arguments: list[str], address: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert read_flags(*arguments).read_endpoint() == Endpoint(address)


@pytest.mark.parametrize("source", ["flags", "variables"])
def test_tls_and_token_come_from_flags_or_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    files = {"tls_ca": "ca.pem", "tls_cert": "c.pem", "tls_key": "c.key", "token_file": str(token)}
    flags = []
    for name, path in files.items():
        if source == "flags":
            flags.append(f"--{name.replace('_', '-')}={path}")
        monkeypatch.setenv(f"INKLING_{name.upper()}", "elsewhere" if source == "flags" else path)
    endpoint = read_flags(*flags).read_endpoint()
    assert endpoint == Endpoint("127.0.0.1:50051", Path("ca.pem"), Path("c.pem"), Path("c.key"), "secret")
    assert endpoint.metadata == (("authorization", "Bearer secret"),)
    assert "secret" not in repr(endpoint)


@pytest.mark.parametrize("data", [b"", b"\n", b"alice secret", b"one\ntwo", "секрет".encode(), b"\xff"])
def test_a_file_that_is_not_one_token_is_refused_without_telling_it(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=f"^--token-file: .* {file}") as caught:
        read_token(file)
    assert "secret" not in str(caught.value)


def test_a_token_file_that_is_missing_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"^--token-file: cannot read {tmp_path / 'none'}; No such file or directory$"
    ):
        read_token(tmp_path / "none")


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_a_certificate_without_its_key_is_refused_and_the_reverse(name: str) -> None:
    with pytest.raises(ConfigError, match="wanted a certificate with its private key"):
        Client(**{name: "file.pem"})  # type: ignore[arg-type]


@pytest.mark.parametrize("token", ["two words", "строка", "line\nbreak"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match=r"^token: wanted printable ASCII without spaces, got other characters$"):
        Client(token=token)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("server.key", "certificates of authorities in"), ("none.pem", "certificates of authorities in .*; No such file")],
)
def test_a_file_without_authorities_is_refused_with_its_path(tmp_path: Path, name: str, problem: str) -> None:
    AUTHORITY.sign().write(tmp_path)
    with pytest.raises(ConfigError, match=f"^TLS: wanted {problem}"):
        Client(tls_ca=tmp_path / name)


def test_a_key_of_another_certificate_is_refused_with_both_paths(tmp_path: Path) -> None:
    certificate, _ = AUTHORITY.sign().write(tmp_path, "one")
    _, key = AUTHORITY.sign().write(tmp_path, "other")
    with pytest.raises(ConfigError, match=f"^TLS: wanted a certificate and its key in {certificate} and {key}; "):
        Client(tls_cert=certificate, tls_key=key)


def test_a_key_behind_a_password_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    signed = AUTHORITY.sign()
    certificate, key = signed.write(tmp_path)
    key.write_bytes(signed.encrypt_key(b"secret"))
    with pytest.raises(ConfigError, match=r"^TLS: wanted a certificate and its key in"):
        Client(tls_cert=certificate, tls_key=key)
