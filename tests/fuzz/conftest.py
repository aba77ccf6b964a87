"""The table of what the fuzzers did, at the end of a run that had some."""

import pytest

from tests.fuzz.budget import SEED, TALLIES, write_table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print it, whether the tests passed or not."""
    if TALLIES:
        terminalreporter.section(f"fuzz, INKLING_FUZZ_SEED={SEED}")
        for line in write_table(TALLIES):
            terminalreporter.write_line(line)
