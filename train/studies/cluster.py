"""Runs of a study as tasks of a Ray cluster -> finished runs, in the order in which they end.

Enters: jobs, their plan and images, a connected Ray. Leaves: a `Run` for each job. Does not know: files of results.
A run that a lost node had starts again from its beginning. A run that another one follows in the same process would
keep its threads and memory, so every run has a process of its own.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serve.errors import InklingError
from train.studies.plan import Job, Plan
from train.studies.results import Run
from train.studies.runner import Material, train_job


def train_over_ray(
    ray: Any, jobs: Sequence[Job], plan: Plan, material: Material, cores: int
) -> Iterator[tuple[Job, Run]]:
    """Train every job as a task of so many cores."""
    task = ray.remote(num_cpus=cores, max_calls=1, max_retries=-1)(train_alone)
    shared = ray.put(material)
    under_way = {task.remote(job, plan, shared, cores): job for job in jobs}
    try:
        while under_way:
            (ended,), _ = ray.wait(list(under_way), num_returns=1)
            yield under_way.pop(ended), ray.get(ended)
    except ray.exceptions.RayError as error:
        raise InklingError(f"a run over Ray failed: {str(error).splitlines()[-1]}") from error
    finally:
        for left in under_way:  # whoever asked for runs needs no more of them
            ray.cancel(left, force=True)


def train_alone(job: Job, plan: Plan, material: Material, cores: int) -> Run:
    """Train one job in a process of its own."""
    import tensorflow as tf  # not above: it is slow to import, and the node's

    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return train_job(job, plan, material, Path(folder) / "run.npz")
