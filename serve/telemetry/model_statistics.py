"""What one version of a model did, as Triton's statistics have it: from what all workers counted.

Enters: a `Tally` of all workers. Leaves: `ModelStatistics`. Does not know: images, messages, who counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from serve.telemetry.counts import CALL, Tally

_NOT_FAILED = ("OK", "CANCELLED")


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something happened, and how long it took in all."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True)
class RunDuration:
    """The runs of one size: how many, the time to prepare their images, and their own."""

    count: int
    prepare_ns: int
    inference_ns: int


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What one version of a model did. Durations are of images, each of which waits for its whole batch."""

    images: int
    """Images that were run."""
    success: Duration
    """Images from their wait for a batch to the end of their run."""
    failure: Duration
    """Calls that failed; those whose callers left are in neither."""
    queue: Duration
    prepare: Duration
    inference: Duration
    runs: Mapping[int, RunDuration]
    """All runs by their number of images."""
    last_answer_ms: int
    """Milliseconds since 1970 at the last run; 0 before the first."""

    @property
    def run_count(self) -> int:
        """All runs."""
        return sum(run.count for run in self.runs.values())


def read_statistics(tally: Tally, name: str, version: str) -> ModelStatistics:
    """The statistics of a version of a model."""
    runs = {
        int(size): RunDuration(count, 1000 * prepare_us, 1000 * inference_us)
        for (model, of, size), (count, prepare_us, inference_us) in sorted(tally.runs.items())
        if (model, of) == (name, version)
    }
    images = sum(size * run.count for size, run in runs.items())
    queue_ns = 1000 * tally.histograms.get(("queue", name, version), [0])[-1]
    prepare_ns = sum(run.prepare_ns for run in runs.values())
    inference_ns = sum(size * run.inference_ns for size, run in runs.items())
    failed = [
        buckets
        for key, buckets in tally.histograms.items()
        if key[0] == CALL and key[2:4] == (name, version) and key[4] not in _NOT_FAILED
    ]
    return ModelStatistics(
        images=images,
        success=Duration(images, queue_ns + prepare_ns + inference_ns),
        failure=Duration(sum(sum(each[:-1]) for each in failed), sum(1000 * each[-1] for each in failed)),
        queue=Duration(images, queue_ns),
        prepare=Duration(images, prepare_ns),
        inference=Duration(images, inference_ns),
        runs=dict(sorted(runs.items())),
        last_answer_ms=tally.latest_ms.get((name, version), 0),
    )
