"""serve.telemetry.model_statistics: what several workers counted, as one model's statistics."""

from serve.telemetry.counts import Counts, Tally
from serve.telemetry.model_statistics import Duration, RunDuration, read_statistics


def count_two_workers() -> Tally:
    """Each ran two images together and one alone, and failed a call."""
    total = Tally()
    for _ in range(2):
        counts = Counts()
        counts.declare_method("Classify", True)
        counts.declare_model("bands")
        model = counts.of_model("bands", "2")
        model.note_batch([10, 20], [1, 2], [3, 4], 100)
        model.note_batch([5], [1], [1], 60)
        counts.note_call("Classify", ("bands", "2"), "OK", 500)
        counts.note_call("Classify", ("bands", "2"), "INVALID_ARGUMENT", 7)
        counts.note_call("Classify", ("bands", "2"), "CANCELLED", 9)
        total.add(counts.take())
    return total


def test_the_counts_of_all_workers_are_added_up() -> None:
    found = read_statistics(count_two_workers(), "bands", "2")
    assert (found.images, found.run_count) == (6, 4)
    assert found.runs == {1: RunDuration(2, 4_000, 120_000), 2: RunDuration(2, 20_000, 200_000)}
    assert found.queue == Duration(6, 70_000)
    assert found.prepare == Duration(6, 24_000)
    assert found.inference == Duration(6, 520_000), "each image waits for its whole run"
    assert found.success == Duration(6, 614_000)
    assert found.failure == Duration(2, 14_000)
    assert found.last_answer_ms > 0


def test_another_version_and_another_model_have_none() -> None:
    tally = count_two_workers()
    for name, version in (("bands", "1"), ("grey-bands", "2")):
        found = read_statistics(tally, name, version)
        assert (found.images, found.run_count, found.last_answer_ms) == (0, 0, 0)
        assert found.failure == Duration(0, 0)
