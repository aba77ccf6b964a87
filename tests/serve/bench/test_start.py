"""`python -m serve.bench --start`: how long the tiny model's server takes to start."""

from pathlib import Path

import pytest

from tests.serve.bench.test_bench import run


def test_starts_are_measured_beside_what_every_server_imports(repository_folder: Path) -> None:
    table, facts = run(repository_folder, "--start")
    assert table.splitlines()[0].split() == ["workers", "imports_s", "start_s", "over_imports_s", "pss_mib"]
    one, two = facts["results"]  # type: ignore[misc]
    assert (one["workers"], two["workers"]) == (1, 2)
    assert one["imports_s"] > 0  # which of the two is longer is chance: the tiny model loads in no time
    assert one["start_s"] > 0
    assert one["over_imports_s"] == pytest.approx(one["start_s"] - one["imports_s"])
    assert 10 < one["pss_mib"] < two["pss_mib"]
