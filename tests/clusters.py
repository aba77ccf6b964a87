"""A Ray cluster of two nodes on this machine, for tests of what runs over one."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

STORE_BYTES = 100 * 2**20
"""Of the object store of a node."""


@contextmanager
def two_nodes(cores: int = 2) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` whose second node can be killed. Skips without Ray."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that Ray brings
        pytest.importorskip("ray", reason="needs the extra [test-ray]")
        from ray.cluster_utils import Cluster

        head = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(num_cpus=cores, object_store_memory=STORE_BYTES)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()
