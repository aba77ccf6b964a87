"""A soak: callers of all kinds on two servers for a time, with kills, stops and changes between; then a table.

Enters: a duration, a folder. Leaves: a `Report`. Does not know: how callers call, how servers are started.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serve.machine.memory import RARELY_S
from tests.soak.callers import KINDS, RIGHT, WRONG, Connection, Kind, take_turn
from tests.soak.servers import Running

MOST_GROWTH = 1.1
LEAST_FOR_MEMORY_S = 300
"""Seconds. In a shorter soak not every thread of every worker has decoded a large image before the first measure."""
QUIET_S = RARELY_S + 10
"""Seconds without a call, after which workers have returned what is free, also if the last calls were few."""
WARM_UP_SHARE = 0.15
"""Share of the time before memory is measured for the first time."""
LONGEST_PAUSE_S = 15.0
"""Seconds between two events."""
EVENTS_AT_LEAST = 8


@dataclass
class Report:
    """What came of a soak."""

    duration_s: float
    outcomes: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    """By the server's part and the kind of caller."""
    events: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def growth(self) -> float:
        """Memory after over before, of the server whose workers live on."""
        return self.bytes_after / self.bytes_before if self.bytes_before else 1.0

    def count(self, outcome: str) -> int:
        """How often something came, of all calls."""
        return sum(counted[outcome] for counted in self.outcomes.values())

    @property
    def failed_good(self) -> int:
        """Calls of good callers to the server that nobody stops that had no answer, but for overload."""
        good = (counted for (part, name), counted in self.outcomes.items() if part == "steady" and KINDS[name].is_good)
        return sum(counted.total() - counted[RIGHT] - counted["RESOURCE_EXHAUSTED"] for counted in good)

    def find_faults(self) -> list[str]:
        """What must not be."""
        counts = {
            "wrong answers": self.count(WRONG),
            "INTERNAL": self.count("INTERNAL"),
            "UNKNOWN": self.count("UNKNOWN"),
            "good calls that failed on the steady server": self.failed_good,
        }
        found = [f"{name}: {count}" for name, count in counts.items() if count]
        if self.duration_s >= LEAST_FOR_MEMORY_S and self.growth > MOST_GROWTH:
            found.append(f"memory after over before: {self.growth:.2f}")
        return [*found, *self.problems]


def soak(duration_s: float, folder: Path, images: Sequence[bytes], seed: int = 0) -> Report:
    """Call two servers for so many seconds, and measure the memory of one before most of it and after all of it."""
    report = Report(duration_s)
    steady, shaken = Running(folder / "steady"), Running(folder / "shaken")
    try:
        for share, first in ((WARM_UP_SHARE, True), (1 - WARM_UP_SHARE, False)):
            with _called({"steady": steady, "shaken": shaken}, images, seed + first, report):
                _shake(steady, shaken, share * duration_s, random.Random(seed + first), report)
            if duration_s >= LEAST_FOR_MEMORY_S:
                time.sleep(QUIET_S)
            if first:
                report.bytes_before = steady.measure()
        report.bytes_after = steady.measure()
    finally:
        for server in (steady, shaken):
            server.end()
            report.problems.extend(server.problems)
    return report


def _shake(steady: Running, shaken: Running, duration_s: float, chance: random.Random, report: Report) -> None:
    """One event after the other, until the time is over."""
    ends_s = time.monotonic() + duration_s
    pause_s = min(LONGEST_PAUSE_S, duration_s / EVENTS_AT_LEAST)
    while (left_s := ends_s - time.monotonic()) > 0:
        time.sleep(min(pause_s, left_s))
        happens = chance.choice([shaken.kill_worker, shaken.restart, shaken.change_model, steady.change_model])
        report.events[happens(chance)] += 1


@contextmanager
def _called(servers: dict[str, Running], images: Sequence[bytes], seed: int, report: Report) -> Iterator[None]:
    """A thread of each kind of caller for each server."""
    ends = threading.Event()
    threads = []
    for part, server in servers.items():
        for name, kind in KINDS.items():
            counted = report.outcomes.setdefault((part, name), Counter())
            chance = random.Random(f"{seed} {part} {name}")
            caller = _Caller(kind, Connection(server.address, images), chance, counted)
            threads.append(threading.Thread(target=caller.run, args=(ends, report.problems)))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ends.set()
        for thread in threads:
            thread.join()


@dataclass
class _Caller:
    """One that takes turns until it is told to end."""

    kind: Kind
    connection: Connection
    chance: random.Random
    counted: Counter[str]

    def run(self, ends: threading.Event, problems: list[str]) -> None:
        """Count every outcome; what no call may raise is a problem."""
        try:
            while not ends.wait(self.kind.pause_s):
                self.counted.update(take_turn(self.kind, self.connection, self.chance))
        except Exception as error:  # a thread's exception would be lost
            problems.append(f"{self.kind.turn.__name__} raised {error!r}")
        finally:
            self.connection.close()


def write_table(report: Report) -> str:
    """The lines of a table, and what must not be."""
    lines = [f"soak of {report.duration_s:.0f} s", "", f"{'caller':<24}{'server':<8}{'calls':>9}  outcomes"]
    for (part, name), counted in report.outcomes.items():
        outcomes = ", ".join(f"{outcome} {count:,}" for outcome, count in counted.most_common())
        lines.append(f"{name:<24}{part:<8}{counted.total():>9,}  {outcomes}")
    lines += ["", *(f"{name}: {count}" for name, count in report.events.most_common()), ""]
    lines += [f"{name}: {report.count(code)}" for name, code in (("wrong answers", WRONG), ("INTERNAL", "INTERNAL"))]
    lines.append(
        f"memory of the steady server's workers after over before: {report.growth:.2f} "
        f"({report.bytes_before // 2**20} to {report.bytes_after // 2**20} MiB)"
    )
    faults = report.find_faults()
    return "\n".join([*lines, *(f"FAULT: {fault}" for fault in faults), "no fault" if not faults else ""])
