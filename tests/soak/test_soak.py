"""A short soak, so that the long one of `make soak` cannot rot."""

from pathlib import Path

import pytest

from tests.soak.callers import KINDS
from tests.soak.run import soak, write_table
from tests.support import Png

DURATION_S = 20


@pytest.mark.slow
def test_a_short_soak_has_no_fault(tmp_path: Path, png: Png) -> None:
    report = soak(DURATION_S, tmp_path, [png(band) for band in range(3)])
    print(write_table(report))
    assert report.find_faults() == []
    assert set(KINDS) == {name for _, name in report.outcomes}
    assert all(counted.total() for counted in report.outcomes.values())
    assert report.events.total() >= 4
