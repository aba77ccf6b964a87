"""serve.process.startup: how long a process that ended waits for its next start."""

from serve.process.startup import LONGEST_BACKOFF_S, STABLE_S, next_pause_s


def test_the_pause_grows_to_its_bound_and_is_short_again_after_a_long_run() -> None:
    pauses_s = [0.0]
    for _ in range(9):
        pauses_s.append(next_pause_s(pauses_s[-1], ran_s=STABLE_S))
    assert pauses_s[1:] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_BACKOFF_S, LONGEST_BACKOFF_S]
    assert next_pause_s(pauses_s[-1], ran_s=STABLE_S + 0.1) == 0.1
