"""serve.telemetry.model_statistics: what is counted, and that the parts of several workers add up."""

from concurrent.futures import ThreadPoolExecutor

from serve.telemetry.model_statistics import ModelCounters, RunTally, Tally, add_statistics


def make_counters() -> ModelCounters:
    """Two runs of two images and one of one, two answered calls and a failed one."""
    counters = ModelCounters()
    counters.count_run(2, 10, 100)
    counters.count_run(2, 20, 200)
    counters.count_run(1, 1, 2)
    counters.count_success(3, 1000, 50, 30, 300)
    counters.count_success(1, 500, 5, 1, 2)
    counters.count_failure(7)
    return counters


def test_nothing_was_done_at_first() -> None:
    statistics = ModelCounters().read()
    assert (statistics.images, statistics.run_count, statistics.last_answer_ms) == (0, 0, 0)
    assert statistics.success == statistics.failure == Tally(0, 0)


def test_calls_and_runs_are_counted_with_their_times() -> None:
    statistics = make_counters().read()
    assert statistics.images == 4
    assert statistics.success == Tally(2, 1500)
    assert statistics.failure == Tally(1, 7)
    assert (statistics.queue, statistics.prepare, statistics.inference) == (Tally(2, 55), Tally(2, 31), Tally(2, 302))
    assert statistics.runs == {1: RunTally(1, 1, 2), 2: RunTally(2, 30, 300)}
    assert statistics.run_count == 3
    assert statistics.last_answer_ms > 1_700_000_000_000


def test_what_was_read_does_not_change_afterwards() -> None:
    counters = make_counters()
    before = counters.read()
    counters.count_run(2, 1, 1)
    assert before.run_count == 3
    assert counters.read().run_count == 4


def test_no_run_is_lost_if_two_threads_count() -> None:
    counters = ModelCounters()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: [counters.count_run(8, 1, 2) for _ in range(2000)], range(4)))
    assert counters.read().runs == {8: RunTally(8000, 8000, 16000)}


def test_the_statistics_of_workers_add_up() -> None:
    first, second = make_counters(), ModelCounters()
    second.count_run(2, 1, 1)
    second.count_run(4, 8, 80)
    second.count_success(6, 100, 1, 9, 81)
    total = add_statistics([first.read(), second.read()])
    assert total.images == 10
    assert total.success == Tally(3, 1600)
    assert total.failure == Tally(1, 7)
    assert total.runs == {1: RunTally(1, 1, 2), 2: RunTally(3, 31, 301), 4: RunTally(1, 8, 80)}
    assert total.last_answer_ms == second.read().last_answer_ms


def test_the_sum_of_no_worker_is_nothing() -> None:
    assert add_statistics([]) == ModelCounters().read()
