"""serve.api.inkling_v1: StreamClassify, over a real connection."""

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from serve.api.inkling_v1 import answer_when_ready
from serve.client.client import Client
from serve.errors import CallError
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


def count_waiting(server: RunningServer) -> tuple[int, int]:
    """Images and bytes of the model `bands` that wait or run."""
    admission = server.server.registry.find("bands", "").admission
    return admission.images, admission.image_bytes


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


def test_images_of_a_stream_share_batches(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """The server goes on reading while images of the stream wait for their batch."""
    server = start_server(repository_folder, max_batch=8, max_queue_delay_us=1_000_000)
    replies = stream(server.address, number([ask(png(1))] * 64))
    assert {reply.classification.timing.batch_size for reply in replies} == {8}


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


def test_an_answer_comes_while_the_stream_is_open(server: RunningServer, png: Png) -> None:
    """A caller may send the next image when it has the answer for the last."""

    async def main() -> list[int]:
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = ClassifierServiceStub(channel).StreamClassify(timeout=60)
            found = []
            for band in (2, 0, 1):
                await call.write(ask(png(band)))
                found.append(find_band(await call.read()))
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            return found

    assert asyncio.run(main()) == [2, 0, 1]


def test_large_images_do_not_hold_up_small_ones_after_them(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """One large image at a time may be decoded here."""
    server = start_server(repository_folder, max_pending_pixels=1)
    large, small = ask(png(2, (3000, 3000))), ask(png(1))
    replies = stream(server.address, number([large] * 8 + [small] * 20))
    places = {int(reply.id): place for place, reply in enumerate(replies)}
    assert len(places) == len(replies) == 28
    assert [find_band(reply) for reply in sort(replies)] == [2] * 8 + [1] * 20
    assert max(places[small] for small in range(8, 28)) < max(places[large] for large in range(8))


def test_a_full_queue_makes_a_stream_wait(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """A call beside it is refused meanwhile."""
    server = start_server(repository_folder, max_pending=1)
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as client:
        requests = number([ask(png(2, (2000, 2000)))] * 12)
        replies = ClassifierServiceStub(channel).StreamClassify(requests, timeout=60)
        first, refused = next(replies), 0
        for _ in range(50):
            try:
                client.classify(png(0), model="bands")
            except CallError as error:
                refused += error.code == "RESOURCE_EXHAUSTED"
        rest = list(replies)
    assert [find_band(reply) for reply in (first, *rest)] == [2] * 12
    assert refused


def test_a_client_that_does_not_read_is_not_read_from_and_loses_nothing(server: RunningServer, png: Png) -> None:
    """The client takes 64 KiB ahead of its reading; the answers, which repeat long ids, are larger together."""
    total, image = 3000, png(1)
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]

    async def main() -> tuple[int, set[str]]:
        async with grpc.aio.insecure_channel(server.address, options=options) as channel:
            call = ClassifierServiceStub(channel).StreamClassify(timeout=120)

            async def write() -> None:
                for place in range(total):
                    await call.write(ask(image, id=f"{place:010000}"))
                await call.done_writing()

            async def count_images() -> int:
                return (await server.ask_statistics("bands", "2")).images

            before = await count_images()
            writing = asyncio.create_task(write())
            done = -1
            while done != await count_images():
                done = await count_images()
                await asyncio.sleep(0.5)
            ids = {reply.id async for reply in call}
            await writing
            return done - before, ids

    done, ids = asyncio.run(main())
    assert 0 < done < total
    assert ids == {f"{place:010000}" for place in range(total)}


def test_what_was_read_before_a_stop_is_answered(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """A caller that goes on sending has an answer for all that it sent up to some place, and for nothing after it."""
    server, image = start_server(repository_folder), png(1)
    with grpc.insecure_channel(server.address) as channel:
        requests = number(ask(image) for _ in itertools.count())
        replies: Any = ClassifierServiceStub(channel).StreamClassify(requests, timeout=60)
        found = list(itertools.islice(replies, 100))
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(grpc.RpcError) as caught:
            found.extend(replies)
        stopping.join()
    error: Any = caught.value
    assert [reply.id for reply in sort(found)] == [str(place) for place in range(len(found))]
    assert {find_band(reply) for reply in found} == {1}
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "the server is stopping" in error.details()


def test_slow_images_of_an_idle_stream_are_answered_at_a_stop(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """The caller has not said that there is no more, and sends nothing."""
    server, going_on = start_server(repository_folder), threading.Event()

    def send() -> Iterator[pb.StreamClassifyRequest]:
        yield from number([ask(png(1, (2000, 2000)))] * 6)
        going_on.wait()

    with grpc.insecure_channel(server.address) as channel:
        replies: Any = ClassifierServiceStub(channel).StreamClassify(send(), timeout=60)
        found = [next(replies)]
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(grpc.RpcError) as caught:
            found.extend(replies)
        stopping.join()
        going_on.set()
    error: Any = caught.value
    assert [(reply.id, find_band(reply)) for reply in sort(found)] == [(str(place), 1) for place in range(6)]
    assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_a_client_that_leaves_a_stream_leaves_nothing_behind(
    server: RunningServer, png: Png, caplog: pytest.LogCaptureFixture
) -> None:
    slow = ask(png(0, (2000, 2000)))
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(5):
            call: Any = ClassifierServiceStub(channel).StreamClassify(number([slow] * 20))
            next(call)
            call.cancel()
    ends_s = time.monotonic() + 20
    while any(count_waiting(server)) and time.monotonic() < ends_s:
        time.sleep(0.05)
    assert count_waiting(server) == (0, 0)
    assert [find_band(reply) for reply in stream(server.address, [ask(png(2))])] == [2]
    assert not caplog.records


def test_a_stream_outlives_the_age_of_its_connection(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    server = start_server(repository_folder, max_connection_age_s=1)

    def send() -> Iterator[pb.StreamClassifyRequest]:
        for _ in range(6):
            yield ask(png(1))
            time.sleep(0.5)

    assert [find_band(reply) for reply in stream(server.address, send())] == [1] * 6


def test_the_deadline_of_a_stream_ends_it(server: RunningServer, png: Png) -> None:
    def send() -> Iterator[pb.StreamClassifyRequest]:
        yield ask(png(1))
        time.sleep(1)

    with grpc.insecure_channel(server.address) as channel:
        replies: Any = ClassifierServiceStub(channel).StreamClassify(send(), timeout=0.5)
        assert find_band(next(replies)) == 1
        with pytest.raises(grpc.RpcError) as caught:
            next(replies)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_error_names_its_reason_for_programs(server: RunningServer) -> None:
    (failed,) = stream(server.address, [ask(b"", id="empty")])
    info = ErrorInfo()
    assert failed.id == "empty"
    assert failed.error.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("inkling", "IMAGE_EMPTY")


async def count_to(end: int, taken: list[int] | None = None) -> AsyncIterator[int]:
    for each in range(end):
        if taken is not None:
            taken.append(each)
        yield each


async def work(place: int, admitted: asyncio.Event) -> int:
    """Later ones are done sooner."""
    admitted.set()
    await asyncio.sleep(0.5 - 0.1 * place)
    return place


def test_answers_come_in_the_order_in_which_they_are_ready() -> None:
    async def main() -> list[int]:
        return [reply async for reply in answer_when_ready(count_to(5), work, 5)]

    assert asyncio.run(main()) == [4, 3, 2, 1, 0]


def test_no_more_than_a_window_is_begun_before_an_answer_is_taken() -> None:
    async def main() -> tuple[int, int]:
        taken: list[int] = []

        async def answer(place: int, admitted: asyncio.Event) -> int:
            admitted.set()
            return place

        async with aclosing(answer_when_ready(count_to(100, taken), answer, 5)) as replies:
            await anext(replies)
            await asyncio.sleep(0.1)
            first = len(taken)
            for _ in range(10):
                await anext(replies)
            await asyncio.sleep(0.1)
            return first, len(taken)

    first, later = asyncio.run(main())
    assert first <= 5 + 1
    assert later == first + 10


def test_nothing_is_read_while_a_request_waits_for_room() -> None:
    async def main() -> list[int]:
        taken: list[int] = []

        async def wait_for_room(place: int, admitted: asyncio.Event) -> int:
            await asyncio.sleep(3600)
            return place

        async with aclosing(answer_when_ready(count_to(100, taken), wait_for_room, 5)) as replies:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(replies), 0.1)
        return taken

    assert asyncio.run(main()) == [0]


def test_a_failure_to_read_comes_after_the_answers_before_it() -> None:
    async def main() -> list[int]:
        async def break_off() -> AsyncIterator[int]:
            yield 1
            yield 2
            raise ValueError("no message")

        replies = answer_when_ready(break_off(), work, 5)
        found = [await anext(replies), await anext(replies)]
        with pytest.raises(ValueError, match="no message"):
            await anext(replies)
        return found

    assert asyncio.run(main()) == [2, 1]


def test_closing_ends_what_is_under_way() -> None:
    async def main() -> tuple[list[int], int]:
        ended: list[int] = []

        async def wait(place: int, admitted: asyncio.Event) -> int:
            admitted.set()
            try:
                await asyncio.sleep(3600 * min(place, 1))
            finally:
                ended.append(place)
            return place

        async with aclosing(answer_when_ready(count_to(100), wait, 5)) as replies:
            assert await anext(replies) == 0
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        return sorted(ended), len(asyncio.all_tasks())

    assert asyncio.run(main()) == ([0, 1, 2, 3, 4, 5], 1)


def test_a_failure_to_read_that_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def break_off() -> AsyncIterator[int]:
            yield 0
            raise ValueError("no message")

        async with aclosing(answer_when_ready(break_off(), work, 5)) as replies:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(replies), 0.1)

    asyncio.run(main())
    gc.collect()
    assert not caplog.records
