"""Measured figures, from the lines of JSON under docs/benchmarks/results.

Enters: the name of a file there, and perhaps of a model. Leaves: for each command the command and a table with a row
for each measurement.
Does not know: how anything was measured.

A line is one measurement: date, commit, machine, the command if there is one, and one figure for each other key.
"""

import json
from pathlib import Path
from typing import Any

from docs.generate.markdown import code, escape, fence, make_table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
ORIGIN = ("machine", "date", "commit")
"""What every row has, in its last columns."""
UNITS = {"per_s": "/s", "ms": "ms", "us": "µs", "s": "s", "mib": "MiB", "min": "min"}
"""The last words of a key, and how a table's head writes them."""


def read_rows(name: str) -> list[dict[str, Any]]:
    """The measurements of a file, in its order."""
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def write_results(name: str, model: str = "") -> str:
    """The rows of a file, or of one model in it, a table for each command."""
    rows = [row for row in read_rows(name) if not model or row["model"] == model]
    parts = []
    for command in dict.fromkeys(row.get("command", "") for row in rows):
        parts += [fence(command, "sh")] if command else []
        parts.append(write_rows([row for row in rows if row.get("command", "") == command]))
    return "\n\n".join(parts)


def write_rows(rows: list[dict[str, Any]]) -> str:
    """One table. A figure that a row does not have is a dash."""
    left_out = {"command", *ORIGIN}
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in left_out))
    cells = [[write_cell(key, row.get(key)) for key in (*keys, *ORIGIN)] for row in rows]
    return make_table([*map(write_head, keys), *ORIGIN], cells)


def write_head(key: str) -> str:
    """A key as a table's head: `images_per_s` is images/s, `p50_ms` is p50 (ms)."""
    for words, unit in UNITS.items():
        if key.endswith(f"_{words}"):
            name = key.removesuffix(f"_{words}").replace("_", " ")
            return f"{name}{unit}" if unit.startswith("/") else f"{name} ({unit})"
    return key.replace("_", " ")


def write_cell(key: str, value: object) -> str:
    """A value under its head: names are code, and an accuracy has four decimals, as it is measured on 10,000 images."""
    if key in ("model", *ORIGIN) and isinstance(value, str) and " " not in value:
        return code(value)
    return f"{value:.4f}" if key.endswith("accuracy") and isinstance(value, float) else write_figure(value)


def write_figure(figure: object) -> str:
    """One figure, or one word."""
    if figure is None:
        return "-"
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if isinstance(figure, int):
        return f"{figure:,}"
    return escape(str(figure))


def write_machines() -> str:
    """The machines that rows name."""
    rows = [[write_figure(value) for value in row.values()] for row in read_rows("machines")]
    return make_table([key.replace("_", " ") for key in read_rows("machines")[0]], rows)
