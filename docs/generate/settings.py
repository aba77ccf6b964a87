"""The server's settings, from the fields of `serve.config.ServerConfig`.

Enters: nothing. Leaves: a table with a row for each setting. Does not know: what a setting does.
"""

from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from docs.generate.markdown import code, escape, make_table
from serve.config import PREFIX, ServerConfig
from serve.settings import write

HIGHEST = 2**31 - 1
"""The bound of a setting that has none of its own."""


def write_settings() -> str:
    """A row for each setting, in the order of `--help`."""
    return make_table(("flag", "meaning", "default", "values", "variable"), map(write_setting, fields(ServerConfig)))


def write_setting(setting: "Field[Any]") -> tuple[str, ...]:
    """The cells of one setting."""
    flag, variable = "--" + setting.name.replace("_", "-"), PREFIX + setting.name.upper()
    default = write(setting.default)
    default_cell = code(default) if default else "none"
    return code(flag), escape(setting.metadata["help"]), default_cell, write_values(setting), code(variable)


def write_values(setting: "Field[Any]") -> str:
    """The values that a setting takes, as far as its field says."""
    kind, choices, least, most = (setting.metadata[key] for key in ("kind", "choices", "least", "most"))
    if choices:
        return ", ".join(map(code, choices))
    if kind is not int:
        return "a path" if kind is Path else setting.metadata["form"][0] or "text"
    return f"from {least:,}" if most == HIGHEST else f"{least:,} to {most:,}"
