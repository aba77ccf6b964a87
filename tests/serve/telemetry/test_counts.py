"""serve.telemetry.counts: what is counted once is in the sums once, whatever takes them when."""

import random
import threading
from collections import Counter

from serve.telemetry.counts import BOUNDS_US, CODES, Counts, ModelCounts, Tally

BANDS = ("bands", "1")


def take_all(counts: Counts, times: int = 1) -> Tally:
    """The sums of several tallies that are taken one after the other."""
    sums = Tally()
    for _ in range(times):
        sums.add(Tally.from_lists(counts.take().to_lists()))
    return sums


def test_a_duration_is_in_the_bucket_of_the_first_bound_that_is_not_less() -> None:
    counts = Counts()
    durations = [0, BOUNDS_US[0], BOUNDS_US[0] + 1, BOUNDS_US[-1], BOUNDS_US[-1] + 1]
    for duration in durations:
        counts.note_call("Classify", BANDS, "OK", duration)
    buckets = counts.take().histograms["call", "Classify", "bands", "1", "OK"]
    *within, above, total = buckets
    assert within == [2, 1, *[0] * (len(BOUNDS_US) - 3), 1]
    assert (above, total) == (1, sum(durations))


def test_the_bounds_are_50_us_to_5_s() -> None:
    assert (BOUNDS_US[0], BOUNDS_US[-1]) == (50, 5_000_000)
    assert list(BOUNDS_US) == sorted(BOUNDS_US)


def test_a_batch_counts_each_image_and_one_run() -> None:
    model = ModelCounts(*BANDS)
    model.note_batch([10, 60, 300], [1, 2, 3], [4, 5, 6], 700)
    taken = model.take()
    counts = {kind: (sum(buckets[:-1]), buckets[-1]) for (kind, *_), buckets in taken.histograms.items()}
    assert counts == {"queue": (3, 370), "decode": (3, 6), "prepare": (3, 15), "inference": (1, 700)}
    assert taken.runs == {(*BANDS, "3"): [1, 1 + 2 + 3 + 4 + 5 + 6, 700]}
    assert taken.latest_ms[BANDS] > 1_700_000_000_000


def test_what_was_taken_is_not_taken_again() -> None:
    counts = Counts()
    counts.declare_model("bands")
    counts.note_call("Classify", BANDS, "OK", 1)
    counts.note_refused("bands", "OVERLOADED")
    counts.of_model(*BANDS).note_never_run(3, is_late=True)
    first, second = counts.take(), counts.take()
    assert first.counters["expired", "bands"] == 3
    assert not second


def test_tallies_add_up_to_what_was_counted_whenever_they_are_taken() -> None:
    """One thread notes batches while another takes tallies, as the event loop does."""
    counts, sums = Counts(), Tally()
    counts.declare_model("bands")
    model, batches = counts.of_model(*BANDS), [random.Random(7).randrange(1, 33) for _ in range(3000)]

    def note() -> None:
        for size in batches:
            model.note_batch([size] * size, [1] * size, [2] * size, 3)

    noting = threading.Thread(target=note)
    noting.start()
    while noting.is_alive():
        sums.add(counts.take())
    sums.add(counts.take())
    queue = sums.histograms["queue", *BANDS]
    assert sum(queue[:-1]) == sum(batches)
    assert queue[-1] == sum(size * size for size in batches)
    assert {int(size): run[0] for (*_, size), run in sums.runs.items()} == Counter(batches)


def test_every_series_of_a_served_model_is_there_at_0() -> None:
    counts = Counts()
    counts.declare_method("Classify", takes_model=True)
    counts.declare_method("ListModels", takes_model=False)
    counts.declare_model("bands")
    sums = take_all(counts, times=3)
    calls = {key[1:] for key in sums.histograms if key[0] == "call"}
    pairs = [("Classify", "bands"), ("Classify", "unknown"), ("ListModels", "unknown")]
    assert calls == {(*pair, "", code) for pair in pairs for code in CODES}
    assert {key[0] for key in sums.histograms} == {"call", "queue", "decode", "prepare", "inference"}
    assert {key[:2] for key in sums.counters} >= {
        (kind, "bands") for kind in ("refused", "cancelled", "expired", "load")
    }
    assert not sums.drop_zeros()


def test_a_file_of_a_model_that_is_not_served_is_refused_under_no_name() -> None:
    counts = Counts()
    counts.declare_model("bands")
    for model, result in (("bands", "loaded"), ("bands", "refused"), ("broken", "refused")):
        counts.note_load(model, result)
    loads = take_all(counts, times=2).drop_zeros().counters
    assert loads == {
        ("load", "bands", "loaded"): 1,
        ("load", "bands", "refused"): 1,
        ("load", "unknown", "refused"): 1,
    }


def test_a_tally_is_the_same_after_its_way_as_lists() -> None:
    tally = Tally({("expired", "имя"): 2}, {("queue", "имя", "1"): [1, 2, 3]}, {("имя", "1", "8"): [1, 2, 3]})
    assert Tally.from_lists(tally.to_lists()) == tally
