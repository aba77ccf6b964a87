"""`python -m serve.bench --start`: the start of a server with the tiny model is measured."""

from pathlib import Path

import pytest

from tests.serve.bench.test_bench import run


def test_a_start_is_measured_beside_the_imports_of_every_server(repository_folder: Path) -> None:
    table, facts = run(repository_folder, "--start")
    assert table.splitlines()[0].split() == ["workers", "imports_s", "start_s", "over_imports_s", "pss_mib"]
    one, two = facts["results"]  # type: ignore[misc]
    assert (one["workers"], two["workers"]) == (1, 2)
    assert one["imports_s"] > 0  # either may be longer, since the tiny model loads at once
    assert one["start_s"] > 0
    assert one["over_imports_s"] == pytest.approx(one["start_s"] - one["imports_s"])
    assert 10 < one["pss_mib"] < two["pss_mib"]
