"""The metrics that a server has, from `serve.telemetry.metrics`.

Enters: nothing. Leaves: a table with a row for each metric. Does not know: what counts them.
"""

from docs.generate.markdown import code, escape, make_table
from serve.telemetry.metrics import METRICS


def write_metrics() -> str:
    """A row for each metric, in the order of `/metrics`."""
    rows = [
        (code(metric.name), metric.kind, ", ".join(map(code, metric.labels)) or "none", escape(metric.help))
        for metric in METRICS.values()
    ]
    return make_table(("metric", "kind", "labels", "meaning"), rows)
