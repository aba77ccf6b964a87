"""How long a server takes until it serves, beside the imports it cannot do without, and what memory it has then.

Enters: a folder of models, numbers of workers. Leaves: medians, a row per number. Does not know: loads.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve.bench.target import start_server
from serve.bench.use import measure_use

IMPORTS = "import grpc, numpy, onnxruntime, PIL.Image"


def measure_start(models: Path, precision: str, workers: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Start in turn, so that what else the machine does falls on all. Raises ConfigError where one does not serve."""
    imports_s: list[float] = []
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in workers}
    for number in range(rounds):
        imports_s.append(measure_imports_s())
        for count in workers:
            found[count].append(
                start_once(["--models", str(models), "--precision", precision, "--workers", str(count)])
            )
            print(f"start {number + 1} of {rounds}, workers {count}: {found[count][-1][0]:.2f} s", file=sys.stderr)
    return [_summarize(count, found[count], statistics.median(imports_s)) for count in workers]


def measure_imports_s() -> float:
    """Seconds of a process that imports what serves and ends."""
    started_s = time.perf_counter()
    quiet = {"ORT_DISABLE_TELEMETRY": "1"} | os.environ
    subprocess.run([sys.executable, "-c", IMPORTS], env=quiet, check=True)  # noqa: S603  # our own line
    return time.perf_counter() - started_s


def start_once(flags: Sequence[str]) -> tuple[float, float]:
    """Seconds from the command until the server says that it serves, and the MiB of all its processes then."""
    started_s = time.perf_counter()
    with start_server(flags) as target:
        took_s = time.perf_counter() - started_s
        return took_s, measure_use(target.pid or 0).pss_mib


def _summarize(workers: int, found: Sequence[tuple[float, float]], imports_s: float) -> dict[str, Any]:
    start_s, pss_mib = map(statistics.median, zip(*found, strict=True))
    row = {"imports_s": imports_s, "start_s": start_s, "over_imports_s": start_s - imports_s, "pss_mib": pss_mib}
    return {"workers": workers, **row, "errors": {}}
