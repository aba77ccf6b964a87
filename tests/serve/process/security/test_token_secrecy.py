"""A server with tokens as many processes: no line of its log and no process shows a token."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.client.client import Client
from serve.errors import CallError
from tests.certificates import Authority
from tests.serve.process.security.callers import ALICES, BOBS, SECRETS
from tests.support import Png


@contextmanager
def logging_server(config: Path) -> Iterator[tuple[subprocess.Popen[str], list[str], Callable[[str], re.Match[str]]]]:
    """A server as a process, its log, and a function that reads that up to a line."""
    command = [sys.executable, "-m", "serve", "--config", str(config)]
    log: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        stderr: Any = process.stderr

        def read_to(pattern: str) -> re.Match[str]:
            for line in stderr:
                log.append(line)
                if found := re.search(pattern, line):
                    return found
            pytest.fail("".join(log))

        try:
            yield process, log, read_to
            log.extend(stderr)
        finally:
            process.kill()


def test_with_many_workers_no_log_line_and_no_process_shows_a_token(
    repository_folder: Path, tokens: Path, tmp_path: Path, png: Png
) -> None:
    """Over TLS, with all settings in a file, at the level debug; the names are in the log."""
    authority = Authority.make("authority")
    ca, _ = authority.write(tmp_path, "authority")
    certificate, key = authority.sign().write(tmp_path)
    config = tmp_path / "inkling.toml"
    config.write_text(
        f"tls_cert = {str(certificate)!r}\ntls_key = {str(key)!r}\ntokens = {str(tokens)!r}\n"
        f"models = {str(repository_folder)!r}\nport = 0\ndevice = 'cpu'\nworkers = 2\nlog_level = 'debug'\n"
    )
    with logging_server(config) as (process, log, read_to):
        address = read_to(r"serving .* with 2 workers on (\S+)")[1]
        with Client(address, tls_ca=ca, token=ALICES, connections=8) as client:
            assert {client.classify(png(1), model="bands").best.label for _ in range(8)} == {"middle"}
        with Client(address, tls_ca=ca, token=BOBS) as client, pytest.raises(CallError, match="UNAUTHENTICATED"):
            client.list_models()
        pids = [process.pid, *re.findall(r"is ready, process (\d+)", "".join(log))]
        shown = [Path(f"/proc/{pid}/{file}") for pid in pids for file in ("cmdline", "environ")]
        assert not any(secret in file.read_bytes() for file in shown if file.exists() for secret in SECRETS)
        with tokens.open("a") as file:
            file.write(f"bob {BOBS}\n")
        read_to(r"in force: the tokens of alice, bob$")
        process.terminate()
    text = "".join(log)
    assert process.returncode == 0, text
    assert not any(secret.decode() in text for secret in SECRETS)
    assert "in force: the tokens of alice\n" in text
