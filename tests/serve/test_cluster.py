"""serve.cluster: what is no cluster is said at once. The tests of scoring and of studies connect to one."""

import pytest

from serve.cluster import connect
from serve.errors import ConfigError


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "no.such.host.invalid:6379"])
def test_an_address_without_a_cluster_is_a_wrong_setting(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    pytest.importorskip("ray", reason="needs the extra [test-ray]")
    with pytest.raises(ConfigError, match=f"--ray: wanted a cluster at {address}, found none"):
        connect(address)
