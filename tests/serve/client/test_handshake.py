"""serve.client.handshake: an address that no socket takes is explained by others, and raises nothing."""

import pytest

from serve.client.endpoint import Endpoint
from serve.client.handshake import explain_failure


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_name_that_idna_does_not_take_has_no_explanation(host: str) -> None:
    assert explain_failure(Endpoint(f"{host}:1")) == ""
