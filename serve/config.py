"""Flags, environment variables and one TOML file -> one checked, frozen `ServerConfig`.

Enters: the command line and the environment. Leaves: settings that fit together, or ConfigError.
Does not know: what the settings do.
Every field is a flag, has a twin in the environment and is a key of the file: `max_batch` is `--max-batch`,
`INKLING_SERVE_MAX_BATCH` and `max_batch = 32`. The flag wins over the variable, and the variable over the file.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from serve.errors import ConfigError
from serve.program import name_program
from serve.settings import make_field, parse, read_file, write

PREFIX = "INKLING_SERVE_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
"""Names the TOML file, as `--config` does. The file itself has no such key."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The settings of a server, each with the sentence that `--help` shows."""

    host: str = make_field("127.0.0.1", "listen on this address; 0.0.0.0 is every interface of the machine")
    port: int = make_field(50051, "listen on this port; 0 takes a free one and logs it", most=65535)
    tls_cert: Path | None = make_field(
        None, "serve over TLS with this certificate and its chain, a PEM file; read again when it changes", kind=Path
    )
    tls_key: Path | None = make_field(
        None, "use this private key of the certificate, a PEM file without a password", kind=Path
    )
    tls_client_ca: Path | None = make_field(
        None, "accept only clients that have a certificate of these authorities, a PEM file", kind=Path
    )
    tokens: Path | None = make_field(
        None, "accept only calls with a bearer token of this file, which has a name and a token on each line", kind=Path
    )
    max_token_calls: int = make_field(
        0, "let at most this many calls of each name in --tokens run in a worker; 0 sets no limit", most=1_000_000
    )
    models: Path = make_field(Path("models"), "serve the models of this folder, <name>/<version>/model.onnx")
    device: str = make_field(
        "auto", "run on this device; auto takes CUDA if it starts", choices=("auto", "cpu", "cuda")
    )
    device_id: int = make_field(0, "use the CUDA device of this number")
    precision: str = make_field(
        "auto",
        "run the file of this precision, if a model has one; auto takes int8 where it is faster and as accurate",
        choices=("auto", "float32", "float16", "int8"),
    )
    version_policy: str = make_field(
        "latest:1",
        "serve the newest N versions of each model with latest:N, or all of them with all",
        form=("latest:N, N from 1, or all", r"all|latest:[1-9][0-9]{0,5}"),
    )
    model_control: str = make_field(
        "none",
        "let nobody change the served models, the folder (poll), or RepositoryModelLoad and -Unload (explicit)",
        choices=("none", "poll", "explicit"),
    )
    poll_s: int = make_field(
        2, "look at the folder of models every so many seconds with --model-control poll", least=1, most=86_400
    )
    workers: int = make_field(
        0, "serve with this many processes; 0 takes one per usable core, up to 8, on the CPU and one on CUDA", most=256
    )
    max_batch: int = make_field(
        32, "run at most this many images at once; fewer on the CPU if they take over 0.1 s", least=1, most=65536
    )
    max_queue_delay_us: int = make_field(
        0, "wait this many microseconds for a batch to fill; 0 never waits", most=10_000_000
    )
    busy_poll_us: int = make_field(
        2000,
        "busy-poll up to this many microseconds for the next request, in workers of one core; 0 disables it",
        most=1_000_000,
    )
    gpu_memory_mib: int = make_field(0, "give a model at most this many MiB of memory on CUDA; 0 sets no limit")
    max_request_images: int = make_field(256, "accept at most this many images in one BatchClassify", least=1)
    max_pending: int = make_field(
        512, "let at most this many images of a model wait or run in a worker; reject the next call", least=1
    )
    max_pending_bytes: int = make_field(
        256 * 2**20, "let at most this many bytes of image files wait or run in a worker, per model", least=1
    )
    max_pending_pixels: int = make_field(
        100_000_000, "let at most this many pixels of large images wait or be decoded in a worker", least=1
    )
    max_message_bytes: int = make_field(16 * 2**20, "accept request messages of at most this many bytes", least=1024)
    max_image_pixels: int = make_field(
        50_000_000, "accept images of at most this many pixels, checked before decoding", least=1
    )
    start_timeout_s: int = make_field(
        300, "end a worker that does not serve this many seconds after its start; 0 waits for ever", most=86_400
    )
    hang_timeout_s: int = make_field(
        20,
        "replace a worker that is silent for this many seconds, and break off a run of half of it; 0 never does",
        most=86_400,
    )
    max_connection_age_s: int = make_field(
        0, "send clients to new connections after this many seconds, so that they spread; 0 never does", most=86_400
    )
    lame_duck_s: int = make_field(
        0, "accept new calls for this many seconds after a stop signal, until balancers have noticed", most=3600
    )
    grace_s: int = make_field(20, "give accepted calls this many seconds to finish when the server stops")
    metrics_port: int = make_field(
        9464, "answer /metrics, /healthz and /readyz over HTTP on this port; 0 disables it", most=65535
    )
    metrics_host: str = make_field("127.0.0.1", "listen for HTTP on this address")
    web_port: int = make_field(0, "serve the page and the HTTP API on this port, as 8080; 0 disables them", most=65535)
    web_host: str = make_field("127.0.0.1", "listen for the page and the HTTP API on this address")
    web_cors_origins: str = make_field(
        "", "let pages of these origins call the HTTP API, separated by commas; empty lets none"
    )
    trace_endpoint: str = make_field(
        "", "send traces to this URL of an OpenTelemetry collector, by OTLP over HTTP; empty sends none"
    )
    log_format: str = make_field("text", "write each event to the log as a line of this", choices=("text", "json"))
    log_level: str = make_field(
        "info", "log messages of this severity and above", choices=("debug", "info", "warning", "error")
    )


def read_config(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Read flags over environment variables over the file over defaults. Raises ConfigError; `--help` exits."""
    config = ServerConfig(**read_given(arguments, environment))
    _check_together(config)
    return config


def read_given(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that somebody has set, by name: all others have their defaults. Raises ConfigError."""
    flags = vars(_parser().parse_args(arguments))
    _refuse_service_links(environment)
    _refuse_unknown_variables(environment)
    file = flags["config"] or environment.get(CONFIG_VARIABLE)
    values = read_file(Path(file), fields(ServerConfig)) if file else {}
    for setting in fields(ServerConfig):
        twin = PREFIX + setting.name.upper()
        if flags[setting.name] is not None:
            values[setting.name] = parse(setting, flags[setting.name], "--" + setting.name.replace("_", "-"))
        elif twin in environment:
            values[setting.name] = parse(setting, environment[twin], twin)
    return values


def wants_check(arguments: Sequence[str]) -> bool:
    """Whether the command line asks to check everything and then to end. `--help` exits."""
    return bool(_parser().parse_args(arguments).check)


def find_log_format(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The format of the log before the settings are read, so that even their faults are told in it."""
    found = environment.get(PREFIX + "LOG_FORMAT", "text")
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        flag, _, value = argument.partition("=")
        if flag == "--log-format":
            found = value or following
    return found


def to_texts(config: ServerConfig) -> dict[str, str]:
    """Every setting as the text that `from_texts` reads: how a worker gets its settings."""
    return {setting.name: write(getattr(config, setting.name)) for setting in fields(ServerConfig)}


def from_texts(texts: Mapping[str, str]) -> ServerConfig:
    """The settings of `to_texts`, each of its own type again. Raises ConfigError."""
    return ServerConfig(
        **{setting.name: parse(setting, texts[setting.name], setting.name) for setting in fields(ServerConfig)}
    )


def _check_together(config: ServerConfig) -> None:
    """Raise ConfigError if two settings do not fit together."""
    if (config.tls_cert is None) != (config.tls_key is None):
        got, lacks = ("--tls-cert", "--tls-key") if config.tls_cert else ("--tls-key", "--tls-cert")
        raise ConfigError(f"{got}: wanted {lacks} with it; a certificate and its private key make a pair")
    if config.tls_client_ca and not config.tls_cert:
        raise ConfigError("--tls-client-ca: wanted --tls-cert and --tls-key with it; clients are checked over TLS")
    if config.max_token_calls and not config.tokens:
        raise ConfigError("--max-token-calls: wanted --tokens with it; the limit is one of each name in that file")


def _refuse_service_links(environment: Mapping[str, str]) -> None:
    """Raise ConfigError if a Kubernetes Service sets variables with the names of settings."""
    for name in environment:
        if name.startswith(PREFIX) and name.endswith("_SERVICE_HOST"):
            service = name.removesuffix("_SERVICE_HOST").lower().replace("_", "-")
            raise ConfigError(
                f"a Kubernetes Service called {service} sets variables that begin with {PREFIX}, as the settings do: "
                "give it another name, or set enableServiceLinks: false in the pod's specification"
            )


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    """Raise ConfigError for variables that look like settings and are none."""
    known = {CONFIG_VARIABLE, *(PREFIX + setting.name.upper() for setting in fields(ServerConfig))}
    unknown = {name for name in environment if name.startswith(PREFIX)} - known
    if unknown:
        raise ConfigError(f"unknown environment variables: {', '.join(sorted(unknown))}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name_program("serve"),
        allow_abbrev=False,
        description="Serve a folder of model files over gRPC.",
        epilog=f"Every setting is also a variable of the environment and a key of the TOML file: --max-batch is "
        f"{PREFIX}MAX_BATCH and max_batch. The flag wins over the variable, and the variable over the file.",
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"read settings from this TOML file (default: {CONFIG_VARIABLE})"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="load and test the models, say what is wrong, and exit: with 0, 2 for a bad setting, 3 for a bad model",
    )
    for setting in fields(ServerConfig):
        choices = setting.metadata["choices"]
        parser.add_argument(
            "--" + setting.name.replace("_", "-"),
            metavar="{" + ",".join(choices) + "}" if choices else setting.name.rpartition("_")[2].upper(),
            help=f"{setting.metadata['help']} (default: {write(setting.default) or 'none'})",
        )
    return parser
