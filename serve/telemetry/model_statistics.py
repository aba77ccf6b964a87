"""What one model did: how many images, in how many runs, and where the time of its calls went.

Enters: calls and runs, as they end. Leaves: `ModelStatistics`, which can be summed over workers.
Does not know: images, models, messages.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something happened, and how long it took."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True)
class RunTally:
    """The runs of one size: how many, the time to prepare their images, and their own."""

    count: int
    prepare_ns: int
    inference_ns: int


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What one version of a model did since it was loaded."""

    images: int
    """Images that were answered, in calls that were."""
    success: Tally
    """Calls that were answered, from their start to their answer."""
    failure: Tally
    """Calls that failed; those whose callers left are in neither."""
    queue: Tally
    """The waits of answered calls for their first run."""
    prepare: Tally
    """The decoding and preparation of the images of answered calls."""
    inference: Tally
    """The runs that those images were in."""
    runs: Mapping[int, RunTally]
    """All runs by their number of images, those for callers who left included."""
    last_answer_ms: int
    """Milliseconds since 1970 at the last answer; 0 before the first."""

    @property
    def run_count(self) -> int:
        """All runs."""
        return sum(tally.count for tally in self.runs.values())


def add_statistics(parts: Sequence[ModelStatistics]) -> ModelStatistics:
    """The statistics of several workers together."""
    sizes = sorted({size for part in parts for size in part.runs})
    return ModelStatistics(
        images=sum(part.images for part in parts),
        success=_add([part.success for part in parts]),
        failure=_add([part.failure for part in parts]),
        queue=_add([part.queue for part in parts]),
        prepare=_add([part.prepare for part in parts]),
        inference=_add([part.inference for part in parts]),
        runs={size: _add_runs([part.runs[size] for part in parts if size in part.runs]) for size in sizes},
        last_answer_ms=max((part.last_answer_ms for part in parts), default=0),
    )


def _add(tallies: Sequence[Tally]) -> Tally:
    return Tally(sum(each.count for each in tallies), sum(each.ns for each in tallies))


def _add_runs(tallies: Sequence[RunTally]) -> RunTally:
    return RunTally(
        sum(each.count for each in tallies),
        sum(each.prepare_ns for each in tallies),
        sum(each.inference_ns for each in tallies),
    )


class ModelCounters:
    """Counts for one model. Calls are counted on the event loop alone, runs in any thread."""

    def __init__(self) -> None:
        # Plain numbers, and a lock for runs alone: every call pays for this.
        self._images = self._successes = self._failures = self._last_answer_ms = 0
        self._success_ns = self._failure_ns = self._queue_ns = self._prepare_ns = self._inference_ns = 0
        self._lock = threading.Lock()
        self._runs: dict[int, tuple[int, int, int]] = {}

    def count_run(self, images: int, prepare_ns: int, inference_ns: int) -> None:
        """Count a run that ended."""
        with self._lock:
            count, prepared_ns, ran_ns = self._runs.get(images, (0, 0, 0))
            self._runs[images] = count + 1, prepared_ns + prepare_ns, ran_ns + inference_ns

    def count_success(self, images: int, total_ns: int, queue_ns: int, prepare_ns: int, inference_ns: int) -> None:
        """Count a call that is answered next."""
        self._successes += 1
        self._images += images
        self._success_ns += total_ns
        self._queue_ns += queue_ns
        self._prepare_ns += prepare_ns
        self._inference_ns += inference_ns
        self._last_answer_ms = time.time_ns() // 1_000_000

    def count_failure(self, total_ns: int) -> None:
        """Count a call that failed."""
        self._failures += 1
        self._failure_ns += total_ns

    def read(self) -> ModelStatistics:
        """What was counted until now."""
        with self._lock:
            runs = {size: RunTally(*tally) for size, tally in sorted(self._runs.items())}
        return ModelStatistics(
            images=self._images,
            success=Tally(self._successes, self._success_ns),
            failure=Tally(self._failures, self._failure_ns),
            queue=Tally(self._successes, self._queue_ns),
            prepare=Tally(self._successes, self._prepare_ns),
            inference=Tally(self._successes, self._inference_ns),
            runs=runs,
            last_answer_ms=self._last_answer_ms,
        )
