"""`python -m serve.bench` on a server with TLS and tokens, and the flags that do not fit together."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.bench.options import read_options
from tests.certificates import Authority
from tests.serve.bench.test_bench import needs_h2load
from tests.support import RunningServer

AUTHORITY = Authority.make("authority")
TOKEN = "secret-of-the-benchmark"  # noqa: S105  # of this test alone


@pytest.fixture
def flags(start_server: Callable[..., RunningServer], repository_folder: Path, tmp_path: Path) -> list[str]:
    """The flags for a server that answers over TLS alone, and callers with a token alone."""
    certificate, key = AUTHORITY.sign().write(tmp_path)
    ca, _ = AUTHORITY.write(tmp_path, "authority")
    (tmp_path / "tokens").write_text(f"bench {TOKEN}\n")
    (tmp_path / "token").write_text(TOKEN)
    server = start_server(repository_folder, tls_cert=certificate, tls_key=key, tokens=tmp_path / "tokens")
    return ["--address", server.address, "--tls-ca", str(ca), "--token-file", str(tmp_path / "token")]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--beside", "4"], pytest.param(["--generator", "h2load"], marks=needs_h2load)])
def test_a_server_with_tls_and_tokens_is_measured(flags: list[str], repository_folder: Path, more: list[str]) -> None:
    command = [sys.executable, "-m", "serve.bench", "--short", "--models", str(repository_folder), "--model", "bands"]
    done = subprocess.run([*command, *flags, *more], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout.splitlines()[-1])["results"]
    assert result["errors"] == {}
    assert result.get("images_per_s", result.get("batches_per_s")) > 0
    assert TOKEN not in done.stdout + done.stderr


def test_without_a_token_the_benchmark_ends_with_what_the_server_says(flags: list[str]) -> None:
    command = [sys.executable, "-m", "serve.bench", "--short", *flags[:4], "--model", "bands", "--beside", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("serve.bench: UNAUTHENTICATED: wanted one authorization in the metadata")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--tls-ca", "ca.pem"], "wanted --address with them"),
        (["--token-file", "token"], "wanted --address with them"),
        (["--address", "there:1", "--generator", "h2load", "--tls-cert", "c", "--tls-key", "k"], "--generator grpc"),
    ],
)
def test_flags_that_do_not_fit_end_the_command_with_the_reason(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read_options(arguments)
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err


def test_h2load_that_is_not_installed_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        read_options(["--generator", "h2load"])
    assert "--generator: wanted h2load on the PATH" in capsys.readouterr().err
