"""Rows of figures -> a table, and one line of JSON.

Enters: the rows of single rounds. Leaves: their medians, printed. Does not know: how a figure was measured.
"""

import json
import math
import platform
import re
import shutil
import statistics
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from serve.machine.cores import count_usable_cores
from serve.packages import find_version


@dataclass(frozen=True, slots=True)
class Costs:
    """The least costs of an image in core-microseconds; `busy_` were measured on all cores at once."""

    run_us: float
    decode_us: float
    busy_run_us: float
    busy_decode_us: float
    call_us: float
    generator_us: float
    floor_ms: float
    """The least latency of a single in-flight request, in milliseconds: an empty call, decoding and a run."""


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """A server under load. NaN: nothing to measure, such as the latency of rejections without any. None: not measured.

    `cpu` is the cores in use, and `pss_growth` the memory beside that before the load: at once, and after a rest.
    """

    images_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_9_ms: float = field(metadata={"key": "p99.9_ms"})
    refusals_per_s: float
    refusal_p99_ms: float
    health_p99_ms: float
    health_waits_for_cores: float
    stolen_cores: float
    cpu: float | None
    pss_mib: float | None
    pss_growth_at_once: float | None
    pss_growth: float | None
    errors: Counter[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A server's figures beside the ceiling, its capacity in a closed loop, and a peer; None if not measured."""

    ceiling_per_s: float
    fraction: float
    busy_fraction: float
    of_decode_and_run: float
    given_fraction: float
    over_floor: float
    capacity_per_s: float | None
    peer_per_s: float | None
    over_peer: float | None


@dataclass(frozen=True, slots=True)
class LoadRow:
    """A model under load."""

    model: str
    images_per_call: int
    server: ServerFigures
    costs: Costs
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class BesideRow:
    """Single requests of a probe beside batches, and beside as many images in single requests."""

    model: str
    batches_per_s: float
    p99_ms_beside_batches: float
    singles_per_s: float
    p99_ms_beside_singles: float
    ratio: float
    errors: Counter[str]


@dataclass(frozen=True, slots=True)
class CostRow:
    """A feature of the server: images a second without and with it, in turn."""

    model: str
    feature: str
    without_per_s: float
    with_per_s: float
    ratio: float
    errors: Counter[str]


@dataclass(frozen=True, slots=True)
class StartRow:
    """The start of a server, as medians: seconds to serve, seconds of the imports alone, and MiB of all processes."""

    workers: int
    imports_s: float
    start_s: float
    over_imports_s: float
    pss_mib: float
    errors: Counter[str] = field(default_factory=Counter)


Row: TypeAlias = LoadRow | BesideRow | CostRow | StartRow
COLUMNS = [
    "workers",
    "imports_s",
    "start_s",
    "over_imports_s",
    "model",
    "feature",
    "without_per_s",
    "with_per_s",
    "batches_per_s",
    "p99_ms_beside_batches",
]
COLUMNS += ["singles_per_s", "p99_ms_beside_singles", "ratio", "capacity_per_s", "images_per_s", "p50_ms", "p90_ms"]
COLUMNS += ["p99_ms", "p99.9_ms", "refusals_per_s", "refusal_p99_ms", "health_p99_ms", "cpu", "pss_mib"]
COLUMNS += ["pss_growth_at_once", "pss_growth", "peer_per_s", "over_peer", "fraction", "stolen_cores"]
COLUMNS += ["given_fraction", "busy_fraction", "of_decode_and_run", "over_floor"]
"""All columns in their order. A table has those that its rows have."""


def summarize(rounds: Sequence[Row]) -> dict[str, Any]:
    """The row of several rounds by its JSON keys: the median of each figure, without NaN, and the sum of the errors."""
    found = [flatten(each) for each in rounds]
    return {key: _summarize([each[key] for each in found]) for key in found[0]}


def _summarize(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Counter):
        return sum(values, Counter())
    if not isinstance(values[0], float):
        return values[0]  # a name or a setting, equal in all rounds
    known = [value for value in values if not math.isnan(value)]
    return round(statistics.median(known), 4) if known else math.nan


def flatten(row: Any) -> dict[str, Any]:
    """The figures of a row and of its parts by their JSON keys, without those that were not measured (None)."""
    found: dict[str, Any] = {}
    for each in fields(row):
        value = getattr(row, each.name)
        if is_dataclass(value):
            found |= flatten(value)
        elif value is not None:
            found[each.metadata.get("key", each.name)] = value
    return found


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each row, then the errors of each row by code."""
    heads = [head for head in COLUMNS if head in rows[0] and any(_is_known(row[head]) for row in rows)]
    cells = [heads] + [[_format(row[head]) for head in heads] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    for row in rows:
        if row["errors"]:
            print(f"errors of {row['model']}: " + ", ".join(f"{code} {count}" for code, count in row["errors"].items()))


def _is_known(value: object) -> bool:
    """False for NaN, such as the latency of rejections when there were none."""
    return not (isinstance(value, float) and math.isnan(value))


def _format(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def describe_run(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """One line of JSON: the figures, the settings, the date, the commit, the versions and the machine."""
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "settings": {name: str(value) for name, value in settings.items()},
        "versions": {name: find_version(name) for name in ("grpcio", "numpy", "onnxruntime", "pillow", "protobuf")},
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": count_usable_cores(),
        "results": [{head: value if _is_known(value) else None for head, value in row.items()} for row in rows],
    }
    return json.dumps(facts)


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or "unknown"


def _cpu_name() -> str:
    facts = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", facts.read_text()) if facts.exists() else None
    return found[1] if found else platform.processor()
