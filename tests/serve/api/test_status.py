"""serve.api.status: every failure that has a name has a code, and every other says nothing of the inside."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from serve import errors
from serve.api.status import find_code, name_code, refuse, to_status
from serve.telemetry.calls import CURRENT_CALL, Call


class Refused:
    """A call that takes note of how it is ended."""

    def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        """As gRPC's context has it."""
        self.code, self.details, self.trailers = code, details, dict(trailing_metadata)


def end_with(error: Exception) -> Refused:
    """A call that an error has ended."""
    refused = Refused()
    refuse(refused, error)  # type: ignore[arg-type]  # it has what refuse() asks for
    return refused


@contextmanager
def as_current(call: Call) -> Iterator[None]:
    """Let a call be the one that is being answered."""
    token = CURRENT_CALL.set(call)
    yield
    CURRENT_CALL.reset(token)


def read_details(refused: Refused) -> tuple[ErrorInfo, RetryInfo | None]:
    """What a program reads: who refused and why, and when to come again."""
    status = Status.FromString(bytes(refused.trailers["grpc-status-details-bin"]))
    assert (status.code, status.message) == (refused.code.value[0], refused.details)
    info, retry = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    return info, retry if len(status.details) > 1 and status.details[1].Unpack(retry) else None


@pytest.mark.parametrize("error", [errors.Overloaded, errors.TooManyCalls])
def test_who_comes_too_early_is_told_when_to_come_again(error: type[errors.ServerError]) -> None:
    """In the trailer that gRPC's clients obey, and in the details that others read."""
    refused = end_with(error("later"))
    info, retry = read_details(refused)
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (info.reason, info.domain) == (error.reason, "inkling")
    assert retry is not None
    assert retry.retry_delay.ToNanoseconds() == 50_000_000
    assert refused.trailers["grpc-retry-pushback-ms"] == "50"


@pytest.mark.parametrize(
    ("error", "code", "is_never_retried"),
    [
        (errors.EmptyImage("none"), grpc.StatusCode.INVALID_ARGUMENT, True),
        (errors.NotFound("none"), grpc.StatusCode.NOT_FOUND, True),
        (errors.RequestStalled("slow"), grpc.StatusCode.DEADLINE_EXCEEDED, True),
        (errors.Draining("stops"), grpc.StatusCode.UNAVAILABLE, False),
        (errors.Expired("late"), grpc.StatusCode.DEADLINE_EXCEEDED, False),
        (ValueError("inside"), grpc.StatusCode.INTERNAL, False),
    ],
)
def test_only_a_fault_of_the_request_is_never_retried(
    error: Exception, code: grpc.StatusCode, is_never_retried: bool
) -> None:
    refused = end_with(error)
    info, retry = read_details(refused)
    assert (refused.code, info.domain, retry) == (code, "inkling", None)
    assert refused.trailers.get("grpc-retry-pushback-ms") == ("-1" if is_never_retried else None)


def test_a_code_that_grpc_has_as_a_number_has_its_name() -> None:
    assert name_code(14) == name_code(grpc.StatusCode.UNAVAILABLE) == "UNAVAILABLE"
    assert name_code(None) == name_code(99) == "UNKNOWN"


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: [
        errors.EmptyImage,
        errors.UnreadableImage,
        errors.TruncatedImage,
        errors.ImageTooLarge,
        errors.UnreadableRequest,
        errors.OptionError,
        errors.TensorError,
    ],
    grpc.StatusCode.NOT_FOUND: [errors.NotFound],
    grpc.StatusCode.UNAUTHENTICATED: [errors.Unauthenticated],
    grpc.StatusCode.FAILED_PRECONDITION: [errors.ModelControlOff, errors.ModelRefused],
    grpc.StatusCode.RESOURCE_EXHAUSTED: [errors.Overloaded, errors.TooManyCalls],
    grpc.StatusCode.DEADLINE_EXCEEDED: [errors.RequestStalled, errors.Expired],
    grpc.StatusCode.UNAVAILABLE: [errors.Draining],
}


@pytest.mark.parametrize(("code", "kind"), [(code, kind) for code, kinds in CODES.items() for kind in kinds])
def test_a_named_failure_has_its_code_its_reason_and_its_sentence(
    code: grpc.StatusCode, kind: type[errors.InklingError]
) -> None:
    status, info = to_status(kind("what was wanted and what came")), ErrorInfo()
    assert (status.code, status.message) == (code.value[0], "what was wanted and what came")
    assert find_code(kind("")) is code
    (detail,) = status.details
    assert detail.Unpack(info)
    assert (info.reason, info.domain) == (kind.reason, "inkling")


@pytest.mark.parametrize(
    "error", [errors.Overloaded("busy"), errors.NotFound("none"), errors.Draining("stops")], ids=repr
)
def test_a_failure_gives_back_the_request_id_that_its_call_came_with(error: Exception) -> None:
    """A call that brought none gets none, unless the log names one."""
    found = []
    for request_id in ("id-7", ""):
        with as_current(Call(request_id=request_id)):
            found.append(end_with(error).trailers.get("x-request-id"))
    assert found == ["id-7", None]


def test_a_failure_that_the_log_names_tells_its_caller_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    with as_current(Call()):
        trailers = end_with(ZeroDivisionError("inside")).trailers
    assert caplog.messages == [f"request {trailers['x-request-id']!s} failed"]


@pytest.mark.parametrize("kind", [ZeroDivisionError, errors.CorruptModelFile])
def test_an_unknown_failure_says_nothing_of_the_inside(kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    """Nor does one that is known, and that no client should ever see."""
    refused = end_with(kind("a path or a password"))
    info, _ = read_details(refused)
    assert (refused.code, info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert refused.details == "the server failed; its log says why"
    assert "a path or a password" in caplog.text
