"""How much is tried, and what came of it: the budgets of the fuzzers from the environment, and the table at the end.

Enters: environment variables, outcomes. Leaves: numbers of cases, a table. Does not know: what is tried.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

BEFORE = 500_000
"""Number of the first round of those cases, so that none is tried twice."""
ROUND = 500
"""Draws of one run of hypothesis. It remembers all of a run, so a million of them come in many."""
SEED = int(os.environ.get("INKLING_FUZZ_SEED", "0"))
"""The same seed tries the same cases."""
FAULTS = ("CRASH", "HANG", "INTERNAL", "UNKNOWN")


@dataclass
class Tally:
    """What came of the cases of one fuzzer."""

    name: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """A case may have several: one of each policy."""
    slowest_s: float = 0.0
    good: int = 0
    """Answers to good callers beside, all of them right."""
    bytes_before: int = 0
    bytes_after: int = 0

    def note(self, outcome: str, seconds: float) -> None:
        """Count an outcome of a case."""
        self.outcomes[outcome] += 1
        self.slowest_s = max(self.slowest_s, seconds)

    @property
    def growth(self) -> float:
        """Resident memory after over before; 1 where it is not known, such as after a failure."""
        return self.bytes_after / self.bytes_before if self.bytes_before and self.bytes_after else 1.0


TALLIES: list[Tally] = []
"""Those of this run of pytest, for the table at its end."""


def count_cases(name: str, few: int) -> int:
    """How many cases to try: as INKLING_FUZZ_<NAME> says, or a few."""
    return int(os.environ.get(f"INKLING_FUZZ_{name.upper()}", few))


def count_first(cases: int, least: int) -> int:
    """How many cases come before memory is measured for the first time.

    A process takes more until it has seen every kind of case a few times, and by tens of thousands that is many cases.
    """
    return max(least, cases // 2)


def begin(name: str) -> Tally:
    """A tally that the table will show."""
    TALLIES.append(Tally(name))
    return TALLIES[-1]


def try_cases(
    cases: int, strategy: st.SearchStrategy[list[bytes]], attempt: Callable[[bytes], None], first: int = 0
) -> None:
    """Call `attempt` with at least so many cases of a strategy, in rounds; the first failure is made small and raised.

    The strategy makes several at a time, because drawing takes longer than most attempts. `first` numbers the first
    round, for the seeds.
    """
    tried = 0

    def try_each(drawn: list[bytes]) -> None:
        nonlocal tried
        for case in drawn:
            attempt(case)
            tried += 1

    limits = settings(
        max_examples=max(1, min(ROUND, cases // 4)),  # about four cases a draw
        deadline=None,  # the attempt has its own bound, on the time of the process that is tried
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    for number in itertools.count(first):
        if tried >= cases:
            return
        seed(1_000_000 * SEED + number)(limits(given(strategy)(try_each)))()


def write_table(tallies: Sequence[Tally]) -> list[str]:
    """The lines of a table."""
    lines = [f"{'fuzzer':<22}{'cases':>9}{'slowest s':>11}{'good':>9}{'memory':>8}  outcomes"]
    for tally in tallies:
        outcomes = ", ".join(f"{name} {count:,}" for name, count in tally.outcomes.most_common())
        lines.append(
            f"{tally.name:<22}{tally.cases:>9,}{tally.slowest_s:>11.3f}{tally.good:>9,}{tally.growth:>8.2f}  {outcomes}"
        )
    return lines
