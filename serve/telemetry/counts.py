"""What a worker counts: calls, the stages of images, batches, work that never ran. Plain integers, in few operations.

Enters: calls that ended, batches that ran. Leaves: a `Tally` of all that came since the last one.
Does not know: who adds tallies up (`metrics.py`), Prometheus, gRPC.

A counter of a metrics library costs a lock and a lookup for each image. Here a batch costs one lock, and an image three
bisections.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

BOUNDS_US = (
    *(50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000),
    *(100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000),
)
"""Upper bounds of the buckets of every duration, in microseconds: 50 us to 5 s."""
UNKNOWN = "unknown"
"""The model in a label of a call that names no model that is served."""
NOT_SERVED = (UNKNOWN, "")
"""Name and version of such a model."""
CODES = (
    *("OK", "CANCELLED", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "RESOURCE_EXHAUSTED"),
    *("UNAUTHENTICATED", "UNAVAILABLE", "INTERNAL"),
)
"""Canonical codes that a call may end with; each has a series from the start."""
REFUSALS = ("OVERLOADED", "TOO_MANY_CALLS", "DRAINING")
"""Reasons for which calls are refused although nothing is wrong with them."""
LOADED, REFUSED = "loaded", "refused"
"""How the loading of a model file ends."""
STAGES = ("queue", "decode", "prepare", "inference")
CALL = "call"

Key: TypeAlias = tuple[str, ...]
Buckets: TypeAlias = list[int]
"""Observations at most as large as each bound, not cumulative; then the larger ones; then the sum of all values."""
Run: TypeAlias = list[int]
"""Batches of one size: how many, the microseconds of decoding and preparing their images, and of their runs."""


@dataclass(slots=True)
class Tally:
    """Numbers that can be added to others, each under a key of texts.

    Counters: `("refused", MODEL, REASON)`, `("cancelled", MODEL)`, `("expired", MODEL)`, `("load", MODEL, RESULT)`.
    Histograms in microseconds: `("call", METHOD, MODEL, VERSION, CODE)`; `("queue", MODEL, VERSION)` and other STAGES.
    Runs: `(MODEL, VERSION, BATCH SIZE)`.
    """

    counters: dict[Key, int] = field(default_factory=dict)
    histograms: dict[Key, Buckets] = field(default_factory=dict)
    runs: dict[Key, Run] = field(default_factory=dict)
    latest_ms: dict[Key, int] = field(default_factory=dict)
    """When the last batch ran, by `(MODEL, VERSION)`: milliseconds since 1970."""

    def __bool__(self) -> bool:
        return any(self._parts())

    def add(self, other: "Tally") -> None:
        """Add another tally, which is not used afterwards."""
        for key, count in other.counters.items():
            self.counters[key] = self.counters.get(key, 0) + count
        for mine, others in ((self.histograms, other.histograms), (self.runs, other.runs)):
            for key, numbers in others.items():
                mine[key] = list(map(sum, zip(mine[key], numbers, strict=True))) if key in mine else numbers
        for key, time_ms in other.latest_ms.items():
            self.latest_ms[key] = max(self.latest_ms.get(key, 0), time_ms)

    def drop_zeros(self) -> "Tally":
        """The same without what is zero."""
        return Tally(
            {key: count for key, count in self.counters.items() if count},
            {key: buckets for key, buckets in self.histograms.items() if any(buckets)},
            self.runs,
            self.latest_ms,
        )

    def to_lists(self) -> list[list[Any]]:
        """The same as values that JSON has: a list of [key, number or numbers] for each field."""
        return [[[list(key), value] for key, value in part.items()] for part in self._parts()]

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[Any]]) -> Self:
        """The tally of `to_lists`."""
        return cls(*({tuple(key): value for key, value in part} for part in lists))

    def _parts(self) -> tuple[dict[Key, Any], ...]:
        return self.counters, self.histograms, self.runs, self.latest_ms


class ModelCounts:
    """Counts of one version of a model. Noted from any thread."""

    def __init__(self, name: str = UNKNOWN, version: str = "") -> None:
        self._served_by = name, version
        self._lock = threading.Lock()
        self._fresh = _Fresh()

    def note_batch(
        self, queue_us: Sequence[int], decode_us: Sequence[int], prepare_us: Sequence[int], inference_us: int
    ) -> None:
        """Count a batch that ran: what each of its images took, and the run of all together."""
        with self._lock:
            fresh = self._fresh
            _observe(fresh.queue, queue_us)
            _observe(fresh.decode, decode_us)
            _observe(fresh.prepare, prepare_us)
            _observe(fresh.inference, (inference_us,))
            run = fresh.runs.setdefault(len(queue_us), [0, 0, 0])
            run[0] += 1
            run[1] += sum(decode_us) + sum(prepare_us)
            run[2] += inference_us
            fresh.ran_ms = time.time_ns() // 1_000_000

    def note_never_run(self, images: int, is_late: bool) -> None:
        """Count images whose caller left before they ran, or (`is_late`) whose deadline passed."""
        with self._lock:
            if is_late:
                self._fresh.expired += images
            else:
                self._fresh.cancelled += images

    def take(self) -> Tally:
        """What was counted since the last time, all zeros included."""
        with self._lock:
            taken, self._fresh = self._fresh, _Fresh()
        return taken.to_tally(*self._served_by)


@dataclass(slots=True)
class _Fresh:
    """What a model counted since its counts were taken."""

    queue: Buckets = field(default_factory=lambda: new_buckets(BOUNDS_US))
    decode: Buckets = field(default_factory=lambda: new_buckets(BOUNDS_US))
    prepare: Buckets = field(default_factory=lambda: new_buckets(BOUNDS_US))
    inference: Buckets = field(default_factory=lambda: new_buckets(BOUNDS_US))
    runs: dict[int, Run] = field(default_factory=dict)
    cancelled: int = 0
    expired: int = 0
    ran_ms: int = 0

    def to_tally(self, name: str, version: str) -> Tally:
        """The same under the keys of a `Tally`."""
        return Tally(
            counters={("cancelled", name): self.cancelled, ("expired", name): self.expired},
            histograms={(stage, name, version): getattr(self, stage) for stage in STAGES},
            runs={(name, version, str(size)): run for size, run in self.runs.items()},
            latest_ms={(name, version): self.ran_ms} if self.ran_ms else {},
        )


class Counts:
    """All counts of a worker. Used on its event loop, but for what a `ModelCounts` says."""

    def __init__(self) -> None:
        self._fresh = Tally()
        self._methods: dict[str, bool] = {}
        self._served: set[str] = set()
        self._models: dict[tuple[str, str], ModelCounts] = {}
        self._loads: list[tuple[str, str]] = []

    def note_call(self, method: str, served_by: tuple[str, str], code: str, duration_us: int) -> None:
        """Count a call that has ended, by the name and version of the model that served it."""
        name, version = served_by
        key = (CALL, method, name, version, code)
        buckets = self._fresh.histograms.get(key)
        if buckets is None:
            buckets = self._fresh.histograms[key] = new_buckets(BOUNDS_US)
        buckets[bisect_left(BOUNDS_US, duration_us)] += 1
        buckets[-1] += duration_us

    def note_refused(self, model: str, reason: str) -> None:
        """Count a call that was refused for the server's state."""
        self._count(("refused", model, reason), 1)

    def note_load(self, model: str, result: str) -> None:
        """Count a file that was loaded or refused."""
        self._loads.append((model, result))

    def declare_method(self, method: str, takes_model: bool) -> None:
        """Make the series of a method: for no model at once, for each model when that is served."""
        if method not in self._methods:
            self._methods[method] = takes_model
            self._make_series(UNKNOWN, [method])

    def of_model(self, name: str, version: str) -> ModelCounts:
        """The counts of one version of a model, which stay when it is replaced or unloaded."""
        return self._models.setdefault((name, version), ModelCounts(name, version))

    def declare_model(self, name: str) -> None:
        """Make the series of a model that is served from now on."""
        if name not in self._served:
            self._served.add(name)
            self._make_series(name, [method for method, takes_model in self._methods.items() if takes_model])
            self._fresh.add(_Fresh().to_tally(name, ""))

    def take(self) -> Tally:
        """What was counted since the last time."""
        taken, self._fresh = self._fresh, Tally()
        for (name, _), counts in self._models.items():
            if name in self._served:
                taken.add(counts.take().drop_zeros())  # a zero of each series was sent when it was made
        for model, result in self._loads:
            key = ("load", model if model in self._served else UNKNOWN, result)
            taken.counters[key] = taken.counters.get(key, 0) + 1
        self._loads.clear()
        return taken

    def _make_series(self, model: str, methods: Iterable[str]) -> None:
        for method in methods:
            for code in CODES:
                self._fresh.histograms.setdefault((CALL, method, model, "", code), new_buckets(BOUNDS_US))
        for reason in REFUSALS:
            self._count(("refused", model, reason), 0)
        for result in (LOADED, REFUSED):
            self._count(("load", model, result), 0)

    def _count(self, key: Key, number: int) -> None:
        self._fresh.counters[key] = self._fresh.counters.get(key, 0) + number


def new_buckets(bounds: Sequence[int]) -> Buckets:
    """Zeros for each bound, for what is larger, and for the sum."""
    return [0] * (len(bounds) + 2)


def _observe(buckets: Buckets, values_us: Sequence[int]) -> None:
    for value in values_us:
        buckets[bisect_left(BOUNDS_US, value)] += 1
    buckets[-1] += sum(values_us)
