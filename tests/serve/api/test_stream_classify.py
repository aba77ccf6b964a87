"""serve.api.inkling_v1: StreamClassify, over a real connection."""

from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from serve.client.client import Client
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.support import LABELS, Png, RunningServer

METHOD = "/inkling.v1.ClassifierService/StreamClassify"


def ask(image: bytes, **fields: Any) -> pb.StreamClassifyRequest:
    """A request, of the model `bands` unless another is named."""
    return pb.StreamClassifyRequest(image=image, **{"model": "bands", **fields})


def number(requests: Iterable[pb.StreamClassifyRequest]) -> Iterator[pb.StreamClassifyRequest]:
    """Copies of requests with their place as their id."""
    for index, request in enumerate(requests):
        numbered = pb.StreamClassifyRequest(id=str(index))
        numbered.MergeFrom(request)
        yield numbered


def stream(address: str, requests: Iterable[pb.StreamClassifyRequest]) -> list[pb.StreamClassifyResponse]:
    """All that comes back for some requests, in the order in which it comes."""
    with grpc.insecure_channel(address) as channel:
        return list(ClassifierServiceStub(channel).StreamClassify(iter(requests), timeout=60))


def sort(replies: Iterable[pb.StreamClassifyResponse]) -> list[pb.StreamClassifyResponse]:
    """Replies to numbered requests in the order of the requests."""
    return sorted(replies, key=lambda reply: int(reply.id))


def find_band(reply: pb.StreamClassifyResponse) -> int:
    return reply.classification.classes[0].index


MALFORMED = {
    "no such model": {"model": "missing"},
    "no such version": {"version": "9"},
    "a version that is no number": {"version": "latest"},
    "no image": {"image": b""},
    "not an image": {"image": b"GIF89a, or not"},
    "half an image": {"image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"},
    "a negative top_k": {"options": pb.ClassifyOptions(top_k=-1)},
    "an unknown language": {"options": pb.ClassifyOptions(language_code="tlh")},
}


def test_thousands_of_images_are_answered_each_with_its_id(server: RunningServer, png: Png) -> None:
    """Every seventh is no image, and its error comes beside the answers to the others."""
    images, total = [png(band) for band in range(3)], 5000
    requests = (ask(b"no image" if place % 7 == 6 else images[place % 3]) for place in range(total))
    replies = sort(stream(server.address, number(requests)))
    assert [reply.id for reply in replies] == [str(place) for place in range(total)]
    for place, reply in enumerate(replies):
        if place % 7 == 6:
            assert reply.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        else:
            assert (reply.WhichOneof("outcome"), find_band(reply)) == ("classification", place % 3)


def test_a_request_is_answered_as_by_classify(server: RunningServer, client: Client, png: Png) -> None:
    """Each with its own model and options."""
    options = pb.ClassifyOptions(top_k=2, language_code="ru", return_prepared=True)
    grey, old = stream(server.address, [ask(png(2), model="grey-bands", options=options), ask(png(0), version="1")])
    if not grey.classification.prepared_png:
        grey, old = old, grey
    one = client.classify(png(2), model="grey-bands", top_k=2, language="ru", return_prepared=True)
    assert [(each.label, each.probability) for each in grey.classification.classes] == [
        (each.label, pytest.approx(each.probability, abs=1e-6)) for each in one.classes
    ]
    assert grey.classification.prepared_png == one.prepared_png
    assert (grey.model, grey.version, grey.precision) == ("grey-bands", "1", "float32")
    assert (old.model, old.version, old.precision) == ("bands", "1", "float32")
    assert old.classification.classes[0].label == LABELS["en"][0]


@pytest.mark.parametrize("ids", [["", ""], ["same", "same"], ["18446744073709551615", "images/ёж 🦔.png"]])
def test_any_text_is_an_id(server: RunningServer, png: Png, ids: list[str]) -> None:
    replies = stream(server.address, [ask(png(0), id=each) for each in ids])
    assert sorted(reply.id for reply in replies) == sorted(ids)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_fails_alone_as_it_would_in_classify(server: RunningServer, png: Png, name: str) -> None:
    bad = pb.StreamClassifyRequest(**{"model": "bands", "image": png(0), **MALFORMED[name]})
    first, failed, last = sort(stream(server.address, number([ask(png(1)), bad, ask(png(2))])))
    assert (find_band(first), find_band(last)) == (1, 2)
    alone = pb.ClassifyRequest(model=bad.model, version=bad.version, image=bad.image, options=bad.options)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        ClassifierServiceStub(channel).Classify(alone)
    error: Any = caught.value
    assert failed.error == Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert "wanted" in failed.error.message
    assert (failed.model, failed.version, failed.precision) == ("", "", "")


@pytest.mark.parametrize("garbage", [b"\xff\xff", b"\x0a\x02\xff\xfe"], ids=["no fields", "an id that is not UTF-8"])
def test_bytes_that_are_no_request_end_the_stream(
    server: RunningServer, png: Png, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """After the answers to what came before."""
    before = [request.SerializeToString() for request in number([ask(png(1))] * 5)]
    with grpc.insecure_channel(server.address) as channel:
        replies: Any = channel.stream_stream(METHOD)(iter([*before, garbage, *before]), timeout=60)
        found = []
        with pytest.raises(grpc.RpcError) as caught:
            found.extend(map(pb.StreamClassifyResponse.FromString, replies))
    error: Any = caught.value
    assert [reply.id for reply in sort(found)] == ["0", "1", "2", "3", "4"]
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith("wanted the message inkling.v1.StreamClassifyRequest, got")
    assert not caplog.records


def test_a_stream_without_requests_ends_well(server: RunningServer) -> None:
    assert stream(server.address, []) == []


def test_an_error_names_its_reason_for_programs(server: RunningServer) -> None:
    (failed,) = stream(server.address, [ask(b"", id="empty")])
    info = ErrorInfo()
    assert failed.id == "empty"
    assert failed.error.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("inkling", "IMAGE_EMPTY")
