"""A study over two Ray nodes on one machine: the figures of the local one, and it goes on where it was stopped."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.clusters import two_nodes
from tests.train.studies.test_study import BASE, PLAN, list_files, make_bars
from train.data.datasets import Part, split
from train.studies.plan import Job
from train.studies.results import Run, read_runs
from train.studies.runner import Material, run_plan


def find_figures(folder: Path) -> list[tuple[float | str, int, int, int, dict[str, object]]]:
    """What the runs of a study have in common, wherever they were trained; in the order of value and seed."""
    runs = sorted(read_runs(folder / "results.jsonl"), key=lambda run: (run.value, run.seed))
    return [(run.value, run.seed, run.parameters, run.epochs, run.settings) for run in runs]


def find_accuracies(folder: Path) -> list[float]:
    runs = sorted(read_runs(folder / "results.jsonl"), key=lambda run: (run.value, run.seed))
    return [figure for run in runs for figure in (run.validation_accuracy, run.train_accuracy)]


@pytest.mark.slow
def test_two_values_and_two_seeds_over_a_cluster_equal_the_local_study(tmp_path: Path) -> None:
    """It is stopped behind its first run, and the same call trains the other three."""
    with two_nodes(cores=1) as cluster:
        from serve.cluster import connect
        from train.studies.cluster import train_over_ray

        material = Material(*split(Part.whole(*make_bars(260)), BASE.validation_count), class_count=10)
        ray = connect(cluster.address)
        trained: list[Run] = []

        def elsewhere(jobs: list[Job]) -> Iterator[tuple[Job, Run]]:
            for job, run in train_over_ray(ray, jobs, PLAN, material, cores=1):
                trained.append(run)
                yield job, run

        try:
            run_plan(PLAN, material, tmp_path / "ray", lambda jobs: islice(elsewhere(list(jobs)), 1))
            run_plan(PLAN, material, tmp_path / "ray", lambda jobs: elsewhere(list(jobs)))
        finally:
            ray.shutdown()
        assert len(trained) == len(PLAN.values) * len(PLAN.seeds)
    run_plan(replace(PLAN), material, tmp_path / "local")
    assert list_files(tmp_path / "ray") == list_files(tmp_path / "local")
    assert find_figures(tmp_path / "ray") == find_figures(tmp_path / "local")
    assert find_accuracies(tmp_path / "ray") == pytest.approx(find_accuracies(tmp_path / "local"), abs=1e-6)
