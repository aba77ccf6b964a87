"""What a million images cost and how many replicas a load needs, from the measured figures of a closed loop.

Enters: the rows of docs/benchmarks/results. Leaves: a table with a row for each model and machine.
Does not know: prices, or how anything was measured.
"""

import math

from docs.generate.markdown import code, make_table
from docs.generate.results import read_rows

FILES = ("headline", "closed-loop")
LOAD_PER_S = 1000
"""Images in a second at the busiest time, for the column of replicas."""
BUSY = 0.6
"""Share of what a replica can do at which queues stay short."""
CORES = 2
"""Of every machine that was measured."""


def count_replicas(load_per_s: float, replica_per_s: float) -> int:
    """Replicas for a load, one more than it needs."""
    return math.ceil(load_per_s / (BUSY * replica_per_s)) + 1


def write_capacity() -> str:
    """A row for each model, precision and machine: the first figure that was measured there."""
    found: dict[tuple[str, str, str], float] = {}
    for file in FILES:
        for row in read_rows(file):
            if per_s := row.get("images_per_s"):
                found.setdefault((row["model"], row.get("precision", "float32"), row["machine"]), per_s)
    head = (
        "model",
        "precision",
        "images/s of a replica",
        "core-hours for a million",
        "replicas for 1,000/s",
        "machine",
    )
    rows = [
        (
            code(model),
            precision,
            f"{per_s:,.0f}",
            f"{CORES * 1e6 / per_s / 3600:.2f}",
            str(count_replicas(LOAD_PER_S, per_s)),
            code(machine),
        )
        for (model, precision, machine), per_s in found.items()
    ]
    return make_table(head, rows)
