"""What one setting may be: its field, and its value from a text or from a TOML file, and back to a text.

Enters: what a field says of its values, and a text or a file. Leaves: a value of the field's type, or ConfigError that
names the place where it came from. Does not know: which settings there are.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, field
from pathlib import Path
from typing import Any

from serve.errors import ConfigError, quote_value


def make_field(
    default: Any,
    help_text: str,
    *,
    kind: type | None = None,
    choices: Sequence[str] = (),
    form: tuple[str, str] = ("", ""),
    least: int = 0,
    most: int = 2**31 - 1,
) -> Any:
    """A field of a configuration, with what its values may be.

    `kind` is the type of a value, the default's if it is not given. `form` is that of a text: in words, and as a
    regular expression.
    """
    metadata = {
        "help": help_text,
        "kind": kind or type(default),
        "choices": choices,
        "form": form,
        "least": least,
        "most": most,
    }
    return field(default=default, metadata=metadata)


def parse(setting: "Field[Any]", text: str, source: str) -> Any:
    """A setting's value from its text; an empty text is none, where a setting may have none. Raises ConfigError."""
    kind, choices, least, most = (setting.metadata[key] for key in ("kind", "choices", "least", "most"))
    if choices and text not in choices:
        raise ConfigError(f"{source}: wanted one of {', '.join(choices)}; got {text!r}")
    form, pattern = setting.metadata["form"]
    if form and not re.fullmatch(pattern, text):
        raise ConfigError(f"{source}: wanted {form}; got {text!r}")
    if kind is not int:
        return None if setting.default is None and not text else kind(text)
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise ConfigError(f"{source}: wanted a whole number from {least} to {most}, got {text!r}")
    return int(text)


def write(value: Any) -> str:
    """The text that `parse` reads."""
    return "" if value is None else str(value)


def describe(texts: Mapping[str, str]) -> str:
    """Settings on one line for the log, those without a value left out. Nobody's password in a URL is shown."""
    shown = {name: re.sub(r"(?<=//)[^/@\s]*(?=@)", "***", text) for name, text in texts.items() if text}
    return " ".join(f"{name}={text if text.isprintable() else repr(text)}" for name, text in shown.items())


def read_file(path: Path, settings: "Iterable[Field[Any]]") -> dict[str, Any]:
    """The settings in a TOML file by name, each of its own type. Raises ConfigError with the file and the key."""
    import tomllib  # here: most servers start without a file

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}; {error.strerror or error}") from error
    except ValueError as error:  # bytes that are no text, or a text that is not TOML
        raise ConfigError(f"--config: {path} is not TOML: {error}") from error
    except RecursionError:
        raise ConfigError(f"--config: {path}: wanted TOML, got lists or tables nested too deeply to read") from None
    known = {setting.name: setting for setting in settings}
    if unknown := sorted(values.keys() - known.keys()):
        raise ConfigError(f"{path}: unknown keys: {', '.join(unknown)}")
    return {name: _take(known[name], value, f"{path}: {name}") for name, value in values.items()}


def _take(setting: "Field[Any]", value: Any, source: str) -> Any:
    """A setting's value from a value of TOML, whose type must be the setting's: numbers stand without quotes."""
    wanted = int if setting.metadata["kind"] is int else str
    if type(value) is not wanted:  # a Boolean is an int to isinstance
        name = {int: "a whole number without quotes", str: "a text in quotes"}[wanted]
        raise ConfigError(f"{source}: wanted {name}, got {quote_value(value)}")
    return parse(setting, value if isinstance(value, str) else quote_value(value), source)
