"""`python -m serve --check`: one line for each model and each problem, an exit code, and no port."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import DAY, Authority

AUTHORITY = Authority.make("authority")
Break = Callable[[Path], list[str]]


def check(*flags: str) -> tuple[int, list[str], str]:
    """The exit code, the lines on stdout and the text on stderr."""
    command = [sys.executable, "-m", "serve", "--check", "--device", "cpu", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INKLING_SERVE_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def folder(tmp_path: Path, repository_folder: Path) -> Path:
    """A folder with a whole good configuration in it, and with `inkling.toml`, which names its parts."""
    AUTHORITY.sign().write(tmp_path)
    AUTHORITY.write(tmp_path, "authority")
    (tmp_path / "tokens").write_text("bob bobs-secret\nalice alices-secret\n")
    shutil.copytree(repository_folder, tmp_path / "models")
    names = {"models": "models", "tls_cert": "server.pem", "tls_key": "server.key", "tokens": "tokens"}
    names["tls_client_ca"] = "authority.pem"
    lines = [f"{key} = '{tmp_path / name}'\n" for key, name in names.items()]
    (tmp_path / "inkling.toml").write_text("".join([*lines, "version_policy = 'all'\n"]))
    return tmp_path


def add_line(folder: Path, line: str) -> list[str]:
    """Add a line to the TOML file."""
    with (folder / "inkling.toml").open("a") as file:
        file.write(line + "\n")
    return []


def replace_key(folder: Path) -> list[str]:
    """Put another certificate's key in the place of the right one."""
    (folder / "server.key").write_bytes(AUTHORITY.sign().key_pem)
    return []


def expire(folder: Path) -> list[str]:
    """Put a certificate there that has expired."""
    AUTHORITY.sign(lifetime=-DAY).write(folder)
    return []


def break_tokens(folder: Path) -> list[str]:
    """Leave a line without a token."""
    (folder / "tokens").write_text("bob\n")
    return []


def break_model(folder: Path) -> list[str]:
    """Change a byte of a model file."""
    file = folder / "models" / "bands" / "1" / "model.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return []


def misspell_setting(folder: Path) -> list[str]:
    """Put a key that no version has beside a model."""
    (folder / "models/bands/1/serving.toml").write_text("max_bach = 4")
    return []


def remove_models(folder: Path) -> list[str]:
    """Leave no model."""
    shutil.rmtree(folder / "models")
    (folder / "models").mkdir()
    return []


def test_a_good_configuration_has_a_line_for_each_model_and_each_file(folder: Path) -> None:
    code, lines, _ = check("--config", str(folder / "inkling.toml"))
    models = [f"{name}: float32 on cpu, accuracy 0.5000" for name in ("bands version 2", "bands version 1")]
    assert lines[:3] == [f"ok: {model}" for model in [*models, "grey-bands version 1: float32 on cpu, accuracy 0.5000"]]
    assert lines[3].startswith(f"ok: certificate {folder / 'server.pem'}: expires on ")
    assert lines[4:] == [f"ok: tokens {folder / 'tokens'}: alice, bob"]
    assert code == 0


@pytest.mark.parametrize(
    ("break_it", "code", "problem"),
    [
        (lambda folder: add_line(folder, "prot = 1"), 2, "inkling.toml: unknown keys: prot"),
        (lambda folder: add_line(folder, "port = '1'"), 2, "port: wanted a whole number without quotes, got '1'"),
        (lambda folder: ["--tls-key", ""], 2, "--tls-cert: wanted --tls-key with it"),
        (replace_key, 2, "is not the private key of"),
        (expire, 2, "--tls-cert: the certificate in"),
        (break_tokens, 2, "line 1: wanted two words, a name and a token; got 1"),
        (break_model, 3, "bands version 1: "),
        (misspell_setting, 3, "bands version 1: serving.toml: unknown keys: max_bach"),
        (remove_models, 3, "--models: wanted"),
    ],
    ids=[
        "a key",
        "a type",
        "no key file",
        "another key",
        "an old certificate",
        "tokens",
        "a model",
        "a key beside a model",
        "no models",
    ],
)
def test_a_bad_configuration_has_a_line_with_the_problem_and_an_exit_code(
    folder: Path, break_it: Break, code: int, problem: str
) -> None:
    flags = break_it(folder)
    found, lines, errors = check("--config", str(folder / "inkling.toml"), *flags)
    assert found == code, errors
    wrong = [line for line in lines if line.startswith("wrong: ")] or errors.splitlines()
    assert len(wrong) == 1
    assert problem in wrong[0]
    assert not any(secret in errors + "".join(lines) for secret in ("bobs-secret", "alices-secret"))


def test_several_problems_have_a_line_each(folder: Path) -> None:
    for break_it in (break_model, replace_key, break_tokens):
        break_it(folder)
    code, lines, _ = check("--config", str(folder / "inkling.toml"))
    assert [line.partition(":")[0] for line in lines] == ["ok", "ok", "wrong", "wrong", "wrong"]
    assert code == 2


def test_no_port_is_opened(folder: Path) -> None:
    """One that another program has does not matter; a server would end."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, *_ = check("--config", str(folder / "inkling.toml"), "--port", str(other.getsockname()[1]))
    assert code == 0
