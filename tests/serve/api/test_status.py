"""serve.api.status: every failure that has a name has a code, and every other says nothing of the inside."""

import grpc
import pytest

from serve import errors
from serve.api.status import INTERNAL_MESSAGE, STATUS_CODES, to_status


def test_every_named_failure_has_a_status_code() -> None:
    for error in (
        errors.EmptyImage,
        errors.NotFound,
        errors.Overloaded,
        errors.Expired,
        errors.Draining,
        errors.ModelRefused,
    ):
        status = to_status(error("what was wanted and what came"))
        assert status.message == "what was wanted and what came"
        assert status.code != grpc.StatusCode.INTERNAL.value[0]
    assert STATUS_CODES[Exception] is grpc.StatusCode.INTERNAL


def test_an_unknown_failure_says_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    status = to_status(ZeroDivisionError("a path or a password"))
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert status.message == INTERNAL_MESSAGE
    assert "a path or a password" in caplog.text
