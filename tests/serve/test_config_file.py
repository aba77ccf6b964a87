"""serve.settings and serve.config: one TOML file with typed keys, below the variables and above the defaults."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from serve.config import ServerConfig, read_config
from serve.errors import ConfigError
from tests.serve.test_config import FORMS

SETTINGS = {setting.name: setting for setting in fields(ServerConfig)}
PAIR = {"tls_cert": "cert.pem", "tls_key": "key.pem", "tokens": "tokens.txt"}


def write_file(folder: Path, text: str) -> Path:
    """A TOML file of that text."""
    file = folder / "inkling.toml"
    file.write_text(text, encoding="utf-8")
    return file


def read_text(folder: Path, text: str) -> ServerConfig:
    """The settings of a TOML file of that text."""
    return read_config(["--config", str(write_file(folder, text))], {})


def value_of(name: str) -> Any:
    """A value that is not the default."""
    setting = SETTINGS[name]
    if setting.metadata["choices"]:
        return next(choice for choice in setting.metadata["choices"] if choice != setting.default)
    if setting.metadata["form"][0]:
        return FORMS[name][0]
    return setting.metadata["most"] if setting.metadata["kind"] is int else "elsewhere"


def to_toml(value: object) -> str:
    """A number or a text as TOML writes it."""
    return str(value) if isinstance(value, int) else f'"{value}"'


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_key(tmp_path: Path, name: str) -> None:
    values = PAIR | {name: value_of(name)}
    config = read_text(tmp_path, "\n".join(f"{key} = {to_toml(value)}" for key, value in values.items()))
    kind = SETTINGS[name].metadata["kind"]
    assert getattr(config, name) == kind(value_of(name))
    assert type(getattr(config, name)) is type(kind(value_of(name)))


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(tmp_path: Path) -> None:
    file = write_file(tmp_path, 'port = 1\nhost = "a"\ndevice = "cuda"')
    environment = {"INKLING_SERVE_CONFIG": str(file), "INKLING_SERVE_PORT": "2", "INKLING_SERVE_HOST": "b"}
    config = read_config(["--port", "3"], environment)
    assert (config.port, config.host, config.device) == (3, "b", "cuda")


def test_the_flag_names_the_file_before_the_variable_does(tmp_path: Path) -> None:
    file = write_file(tmp_path, "port = 1")
    assert read_config([f"--config={file}"], {"INKLING_SERVE_CONFIG": str(tmp_path / "none.toml")}).port == 1


def test_an_empty_variable_names_no_file() -> None:
    assert read_config([], {"INKLING_SERVE_CONFIG": ""}) == ServerConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('port = "50051"', "port: wanted a whole number without quotes, got '50051'"),
        ("port = 1.5", "port: wanted a whole number without quotes, got 1.5"),
        ("port = true", "port: wanted a whole number without quotes, got True"),
        ("port = 65536", "port: wanted a whole number from 0 to 65535, got '65536'"),
        ("port = -1", "port: wanted a whole number from 0 to 65535, got '-1'"),
        ("[port]\nnumber = 1", "port: wanted a whole number without quotes, got {'number': 1}"),
        (
            "port" + ".a" * 4_000 + " = 1",
            "port: wanted a whole number without quotes, got a value of type dict, too large to show",
        ),
        (
            "port = 0x" + "f" * 5_000,
            "port: wanted a whole number from 0 to 65535, got 'a value of type int, too large to show'",
        ),
        ("host = 1", "host: wanted a text in quotes, got 1"),
        ('device = "CPU"', "device: wanted one of auto, cpu, cuda; got 'CPU'"),
        ("tls_cert = false", "tls_cert: wanted a text in quotes, got False"),
        ('prot = 1\n"a.b" = 2', "unknown keys: a.b, prot"),
        ('config = "other.toml"', "unknown keys: config"),
        ("check = true", "unknown keys: check"),
    ],
)
def test_a_wrong_key_or_type_is_refused_with_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'inkling.toml'}: {message}"


@pytest.mark.parametrize("data", [b"port: 1", b"port = 1\nport = 2", b"\xff\xfe", b"port = 01"])
def test_what_is_not_toml_is_refused_with_the_file(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "inkling.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=r"inkling\.toml is not TOML: "):
        read_config([], {"INKLING_SERVE_CONFIG": str(file)})


def test_toml_that_is_nested_too_deeply_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(tmp_path, "port = " + "[" * 20_000)
    file = tmp_path / "inkling.toml"
    assert str(caught.value) == f"--config: {file}: wanted TOML, got lists or tables nested too deeply to read"


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(["--config", str(tmp_path / name)], {})
    assert str(caught.value).startswith(f"--config: cannot read {tmp_path / name}; ")


def test_settings_of_a_file_have_to_fit_together_with_flags(tmp_path: Path) -> None:
    file = write_file(tmp_path, 'tls_cert = "cert.pem"')
    with pytest.raises(ConfigError, match="--tls-cert: wanted --tls-key with it"):
        read_config(["--config", str(file)], {})
    assert read_config(["--config", str(file), "--tls-key", "key.pem"], {}).tls_key == Path("key.pem")
