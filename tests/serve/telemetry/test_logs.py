"""serve.telemetry.logs: what is logged of gRPC's core, and what is not."""

import logging
import sys

from grpc._cython import cygrpc

from serve.telemetry.logs import is_news


def make_record(error: Exception) -> logging.LogRecord:
    """What a logger makes of an exception."""
    try:
        raise error
    except Exception:
        return logging.LogRecord("grpc._cython.cygrpc", logging.ERROR, "server", 1, "raised", (), sys.exc_info())


def test_an_answer_whose_caller_has_left_is_the_only_failure_not_logged() -> None:
    assert not is_news(make_record(cygrpc.ExecuteBatchError("Failed")))
    assert is_news(make_record(cygrpc.InternalError("Failed")))
    assert is_news(logging.LogRecord("grpc._cython.cygrpc", logging.ERROR, "server", 1, "odd", (), None))
