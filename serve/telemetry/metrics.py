"""What the supervisor shows of all workers: the list of metrics, their sums, and Prometheus' text.

Enters: tallies and states of workers. Leaves: the text of `/metrics`. Does not know: links, processes, HTTP.
"""

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from serve.telemetry.counts import BOUNDS_US, CALL, STAGES, Buckets, Key, Tally, new_buckets

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

COMMIT = "INKLING_COMMIT"
"""Variable of the environment with the commit that a build was made from; the image sets it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, kind and labels, and the sentence that `/metrics` says of it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric("inkling_requests_total", "counter", ("method", "model", "code"), "Calls that ended."),
        Metric(
            "inkling_request_duration_seconds",
            "histogram",
            ("method", "model"),
            "Time from a call's first handling to its answer.",
        ),
        Metric("inkling_queue_duration_seconds", "histogram", ("model",), "Time that an image waited for its batch."),
        Metric("inkling_decode_duration_seconds", "histogram", ("model",), "Time that decoding an image took."),
        Metric("inkling_prepare_duration_seconds", "histogram", ("model",), "Time that an image's policy took."),
        Metric("inkling_inference_duration_seconds", "histogram", ("model",), "Time that the run of a batch took."),
        Metric("inkling_batch_images", "histogram", ("model",), "Images of a batch that ran."),
        Metric("inkling_waiting_images", "gauge", ("model",), "Images that are accepted and not answered yet."),
        Metric(
            "inkling_refused_total", "counter", ("model", "reason"), "Calls that were refused for the server's state."
        ),
        Metric("inkling_cancelled_total", "counter", ("model",), "Images that never ran because their caller left."),
        Metric("inkling_expired_total", "counter", ("model",), "Images that never ran because their deadline passed."),
        Metric(
            "inkling_model_loads_total", "counter", ("model", "result"), "Model files that a worker loaded or refused."
        ),
        Metric("inkling_model_info", "gauge", ("model", "version", "precision", "device"), "1 for a live version."),
        Metric("inkling_worker_restarts_total", "counter", (), "Workers that were started in place of one that ended."),
        Metric(
            "inkling_certificate_expiry_timestamp_seconds",
            "gauge",
            (),
            "When the server's certificate expires, in seconds since 1970; absent without TLS.",
        ),
        Metric("inkling_build_info", "gauge", ("version", "commit"), "1 for the build that runs."),
    )
}

Values: TypeAlias = dict[Key, float]
"""Label values -> the value."""


@dataclass(slots=True)
class State:
    """What is true of a worker now; it ends with the worker."""

    waiting_images: dict[str, int] = field(default_factory=dict)
    """By model."""
    models: Sequence[tuple[str, ...]] = ()
    """Name, version, precision and device of each live version."""
    certificate_expiry_s: float = 0.0
    """Seconds since 1970; 0 without a certificate."""


class Metrics:
    """The sums of all workers, those included that have ended, and the states of those that run."""

    def __init__(self) -> None:
        self.sums = Tally()
        self.states: dict[int, State] = {}
        """By worker number."""
        self.worker_restarts = 0

    def render(self) -> tuple[str, bytes]:
        """The content type and the text of `/metrics`."""
        # Here: a supervisor that is not asked goes without it.
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return CONTENT_TYPE_LATEST, generate_latest(registry)

    def collect(self) -> Iterator["Family"]:
        """Every metric with its values, for prometheus_client, of which this is a custom collector."""
        values = self._read_values()
        histograms = self._read_histograms()
        for metric in METRICS.values():
            if metric.kind == "histogram":
                yield _make_histogram(metric, histograms[metric.name])
            else:
                yield _make_family(metric, values[metric.name])

    def _read_values(self) -> dict[str, Values]:
        values: dict[str, Values] = defaultdict(lambda: defaultdict(float))
        for (kind, *labels), buckets in self.sums.histograms.items():
            if kind == CALL:
                method, model, _, code = labels
                values["inkling_requests_total"][method, model, code] += sum(buckets[:-1])
        for (kind, *labels), count in self.sums.counters.items():
            values[COUNTERS[kind]][tuple(labels)] += count
        self._read_states(values)
        values["inkling_worker_restarts_total"][()] = self.worker_restarts
        values["inkling_build_info"][find_build()] = 1
        return values

    def _read_states(self, values: dict[str, Values]) -> None:
        expiries_s = [state.certificate_expiry_s for state in self.states.values() if state.certificate_expiry_s]
        if expiries_s:
            values["inkling_certificate_expiry_timestamp_seconds"][()] = min(expiries_s)
        for state in self.states.values():
            for model, images in state.waiting_images.items():
                values["inkling_waiting_images"][model,] += images
            for labels in state.models:
                values["inkling_model_info"][tuple(labels)] = 1

    def _read_histograms(self) -> dict[str, dict[Key, Buckets]]:
        found: dict[str, dict[Key, Buckets]] = defaultdict(dict)
        for (kind, *labels), buckets in self.sums.histograms.items():
            name, key = (REQUESTS, (labels[0], labels[1])) if kind == CALL else (HISTOGRAMS[kind], (labels[0],))
            sums = found[name].get(key, [0] * len(buckets))
            found[name][key] = list(map(sum, zip(sums, buckets, strict=True)))
        found[BATCHES] = {key: new_buckets(BATCH_BOUNDS) for key in found[HISTOGRAMS["inference"]]}
        for (model, _, size), (count, *_) in self.sums.runs.items():
            buckets = found[BATCHES][model,]
            buckets[bisect_left(BATCH_BOUNDS, int(size))] += count
            buckets[-1] += int(size) * count
        return found


COUNTERS = {
    "refused": "inkling_refused_total",
    "cancelled": "inkling_cancelled_total",
    "expired": "inkling_expired_total",
    "load": "inkling_model_loads_total",
}
REQUESTS = "inkling_request_duration_seconds"
HISTOGRAMS = {stage: f"inkling_{stage}_duration_seconds" for stage in STAGES}
BATCHES = "inkling_batch_images"
BATCH_BOUNDS = tuple(2**power for power in range(11))
"""Upper bounds of the buckets of the batch size, in images: 1 to 1024."""


def _make_family(metric: Metric, values: Values) -> "Family":
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _make_histogram(metric: Metric, values: dict[Key, Buckets]) -> "Family":
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    is_time = metric.name.endswith("_seconds")
    unit = 1e6 if is_time else 1
    bounds = [repr(bound / unit) for bound in (BOUNDS_US if is_time else BATCH_BOUNDS)]
    for labels, (*counts, total) in sorted(values.items()):
        cumulated = [sum(counts[: index + 1]) for index in range(len(counts))]
        family.add_metric(labels, list(zip([*bounds, "+Inf"], cumulated, strict=True)), total / unit)
    return family


@cache
def find_build() -> tuple[str, str]:
    """The version of the package and the commit of the build, where the build says it."""
    from importlib import metadata  # here: it costs a start more than all else that a supervisor imports

    try:
        version = metadata.version("inkling")
    except metadata.PackageNotFoundError:
        version = "unknown"
    return version, os.environ.get(COMMIT, "unknown")
