"""serve.client.streams: a stream that fails or falls silent is tried again, or its error reaches the caller."""

import itertools
from collections.abc import Callable

import grpc
import pytest

from serve.client import AsyncClient, CallError, Classification
from serve.client.streams.unanswered import MOST_TRIES
from tests.serve.client.streams.scripted import Plan, Scripted, name
from tests.serve.client.streams.test_streams import KINDS, collect


@KINDS
def test_what_a_stream_left_unanswered_is_sent_on_another(start: Callable[..., Scripted], kind: type) -> None:
    """Nothing is lost, and nothing that has an answer is sent again."""
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
    server = start(*(Plan(answers, code) for answers, code in zip((40, 0, 25), codes, strict=True)))
    found = collect(kind, server.address, name(1000))
    assert {number: outcome.model for number, outcome in found if isinstance(outcome, Classification)} == {
        number: str(number) for number in range(1000)
    }
    assert [len(ids) for ids in server.streams] == [40, 0, 25, 935]
    assert sorted(map(int, itertools.chain(*server.streams))) == list(range(1000))


@KINDS
def test_a_stream_that_never_answers_is_tried_so_many_times(start: Callable[..., Scripted], kind: type) -> None:
    """GRPC's own retries would multiply with ours."""
    server = start(*[Plan(0)] * 100)
    with pytest.raises(CallError, match=r"^UNAVAILABLE: not now$"):
        collect(kind, server.address, name(3))
    assert len(server.streams) == MOST_TRIES


@KINDS
@pytest.mark.parametrize(
    "plan", [Plan(0, grpc.StatusCode.UNAUTHENTICATED), Plan(0, pushback_ms="-1")], ids=["code", "pushback"]
)
def test_a_failure_that_another_try_does_not_mend_ends_it(
    start: Callable[..., Scripted], kind: type, plan: Plan
) -> None:
    """The status of a first stream may be lost in grpc.aio, if a request was being written when it ended."""
    server = start(*[plan] * 10)
    with pytest.raises(CallError, match="not now"):
        collect(kind, server.address, name(3))
    assert len(server.streams) == 1 or (kind is AsyncClient and len(server.streams) < MOST_TRIES)


@KINDS
def test_a_server_says_when_to_come_again(start: Callable[..., Scripted], kind: type) -> None:
    """Of several streams that are refused, the status of the first may be lost, as above."""
    server = start(*[Plan(0, pushback_ms="900")] * 3)
    assert len(collect(kind, server.address, name(3))) == 3
    assert max(after_s - before_s for before_s, after_s in itertools.pairwise(server.begun_s)) >= 0.9


@KINDS
def test_a_stream_that_ends_well_without_all_answers_is_an_error(start: Callable[..., Scripted], kind: type) -> None:
    with pytest.raises(CallError, match=r"^INTERNAL: wanted an answer to each image, got the end of"):
        collect(kind, start(Plan(2, grpc.StatusCode.OK)).address, name(3))


@KINDS
def test_silence_ends_at_the_timeout(start: Callable[..., Scripted], kind: type) -> None:
    with pytest.raises(CallError, match=r"^DEADLINE_EXCEEDED: no answer came on the stream within 0.3 s"):
        collect(kind, start(is_silent=True).address, name(3), timeout_s=0.3)
