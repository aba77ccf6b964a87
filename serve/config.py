"""Flags and environment variables -> one checked, frozen `ServerConfig`.

Enters: the command line and the environment. Leaves: settings that fit together, or ConfigError.
Does not know: what the settings do.
Every field is a flag and has a twin in the environment: `max_batch` is `--max-batch` and `INKLING_SERVE_MAX_BATCH`.
The flag wins.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from serve.errors import ConfigError

PREFIX = "INKLING_SERVE_"


def _setting(
    default: Any,
    help_text: str,
    *,
    choices: Sequence[str] = (),
    form: tuple[str, str] = ("", ""),
    least: int = 0,
    most: int = 2**31 - 1,
) -> Any:
    metadata = {"help": help_text, "choices": choices, "form": form, "least": least, "most": most}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The settings of a server, each with the sentence that `--help` shows."""

    host: str = _setting("127.0.0.1", "listen on this address; 0.0.0.0 is every interface of the machine")
    port: int = _setting(50051, "listen on this port; 0 takes a free one and logs it", most=65535)
    models: Path = _setting(Path("models"), "serve the models of this folder, <name>/<version>/model.onnx")
    device: str = _setting("auto", "run on this device; auto takes CUDA if it starts", choices=("auto", "cpu", "cuda"))
    device_id: int = _setting(0, "use the CUDA device of this number")
    precision: str = _setting(
        "float32", "run the file of this precision, if a model has one", choices=("float32", "float16", "int8")
    )
    version_policy: str = _setting(
        "latest:1",
        "serve the newest N versions of each model with latest:N, or all of them with all",
        form=("latest:N, N from 1, or all", r"all|latest:[1-9][0-9]{0,5}"),
    )
    model_control: str = _setting(
        "none",
        "let nobody change the served models, the folder (poll), or RepositoryModelLoad and -Unload (explicit)",
        choices=("none", "poll", "explicit"),
    )
    poll_s: int = _setting(
        2, "look at the folder of models every so many seconds with --model-control poll", least=1, most=86_400
    )
    workers: int = _setting(
        0, "serve with this many processes; 0 takes one per usable core, up to 8, on the CPU and one on CUDA", most=256
    )
    max_batch: int = _setting(
        32, "run at most this many images at once; fewer on the CPU if they take over 0.1 s", least=1, most=65536
    )
    max_queue_delay_us: int = _setting(
        0, "wait this many microseconds for a batch to fill; 0 never waits", most=10_000_000
    )
    busy_poll_us: int = _setting(
        2000,
        "busy-poll up to this many microseconds for the next request, in workers of one core; 0 disables it",
        most=1_000_000,
    )
    gpu_memory_mib: int = _setting(0, "give a model at most this many MiB of memory on CUDA; 0 sets no limit")
    max_request_images: int = _setting(256, "accept at most this many images in one BatchClassify", least=1)
    max_pending: int = _setting(
        512, "let at most this many images of a model wait or run in a worker; reject the next call", least=1
    )
    max_pending_bytes: int = _setting(
        256 * 2**20, "let at most this many bytes of image files wait or run in a worker, per model", least=1
    )
    max_pending_pixels: int = _setting(
        100_000_000, "let at most this many pixels of large images wait or be decoded in a worker", least=1
    )
    max_message_bytes: int = _setting(16 * 2**20, "accept request messages of at most this many bytes", least=1024)
    max_image_pixels: int = _setting(
        50_000_000, "accept images of at most this many pixels, checked before decoding", least=1
    )
    start_timeout_s: int = _setting(
        300, "end a worker that does not serve this many seconds after its start; 0 waits for ever", most=86_400
    )
    hang_timeout_s: int = _setting(
        20,
        "replace a worker that is silent for this many seconds, and break off a run of half of it; 0 never does",
        most=86_400,
    )
    grace_s: int = _setting(20, "give accepted calls this many seconds to finish when the server stops")
    log_level: str = _setting(
        "info", "log messages of this severity and above", choices=("debug", "info", "warning", "error")
    )


def read_config(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Read flags over environment variables over defaults. Raises ConfigError; `--help` exits."""
    given = vars(_parser().parse_args(arguments))
    _refuse_service_links(environment)
    values = {}
    for setting in fields(ServerConfig):
        twin = PREFIX + setting.name.upper()
        if given[setting.name] is not None:
            values[setting.name] = _check(setting, given[setting.name], "--" + setting.name.replace("_", "-"))
        elif twin in environment:
            values[setting.name] = _check(setting, environment[twin], twin)
    unknown = {name for name in environment if name.startswith(PREFIX)} - {
        PREFIX + setting.name.upper() for setting in fields(ServerConfig)
    }
    if unknown:
        raise ConfigError(f"unknown environment variables: {', '.join(sorted(unknown))}")
    return ServerConfig(**values)


def to_texts(config: ServerConfig) -> dict[str, str]:
    """Every setting as the text that `from_texts` reads: how a worker gets its settings."""
    return {setting.name: str(getattr(config, setting.name)) for setting in fields(ServerConfig)}


def from_texts(texts: Mapping[str, str]) -> ServerConfig:
    """The settings of `to_texts`, each of its own type again. Raises ConfigError."""
    return ServerConfig(
        **{setting.name: _check(setting, texts[setting.name], setting.name) for setting in fields(ServerConfig)}
    )


def _refuse_service_links(environment: Mapping[str, str]) -> None:
    """Raise ConfigError if a Kubernetes Service sets variables with the names of settings."""
    for name in environment:
        if name.startswith(PREFIX) and name.endswith("_SERVICE_HOST"):
            service = name.removesuffix("_SERVICE_HOST").lower().replace("_", "-")
            raise ConfigError(
                f"a Kubernetes Service called {service} sets variables that begin with {PREFIX}, as the settings do: "
                "give it another name, or set enableServiceLinks: false in the pod's specification"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve",
        allow_abbrev=False,
        description="Serve a folder of model files over gRPC.",
        epilog=f"Every flag has a twin in the environment: --max-batch is {PREFIX}MAX_BATCH. The flag wins.",
    )
    for setting in fields(ServerConfig):
        choices = setting.metadata["choices"]
        parser.add_argument(
            "--" + setting.name.replace("_", "-"),
            metavar="{" + ",".join(choices) + "}" if choices else setting.name.rpartition("_")[2].upper(),
            help=f"{setting.metadata['help']} (default: {setting.default})",
        )
    return parser


def _check(setting: "Field[Any]", text: str, source: str) -> Any:
    """A setting's value from its text. Raises ConfigError with the place that it came from."""
    choices, least, most = (setting.metadata[key] for key in ("choices", "least", "most"))
    if choices and text not in choices:
        raise ConfigError(f"{source}: wanted one of {', '.join(choices)}; got {text!r}")
    form, pattern = setting.metadata["form"]
    if form and not re.fullmatch(pattern, text):
        raise ConfigError(f"{source}: wanted {form}; got {text!r}")
    if isinstance(setting.default, Path):
        return Path(text)
    if isinstance(setting.default, str):
        return text
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise ConfigError(f"{source}: wanted a whole number from {least} to {most}, got {text!r}")
    return int(text)
