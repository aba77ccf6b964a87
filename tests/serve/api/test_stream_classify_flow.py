"""serve.api.inkling_v1: how StreamClassify waits and ends, over a real connection."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.serve.api.test_stream_classify import ask, find_band, number, sort, stream
from tests.support import Png, RunningServer


def count_waiting(server: RunningServer) -> tuple[int, int]:
    """Images and bytes of the model `bands` that wait or run."""
    admission = server.server.registry.find("bands", "").admission
    return admission.images, admission.image_bytes


def test_images_of_a_stream_share_batches(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """The server goes on reading while images of the stream wait for their batch."""
    server = start_server(repository_folder, max_batch=8, max_queue_delay_us=1_000_000)
    replies = stream(server.address, number([ask(png(1))] * 64))
    assert {reply.classification.timing.batch_size for reply in replies} == {8}


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
    """A call beside it is refused meanwhile. Its client has no policy by which it would try again."""
    server = start_server(repository_folder, max_pending=1)
    beside = pb.ClassifyRequest(model="bands", image=png(0))
    with grpc.insecure_channel(server.address) as channel:
        stub = ClassifierServiceStub(channel)
        replies = stub.StreamClassify(number([ask(png(2, (2000, 2000)))] * 12), timeout=60)
        first, codes = next(replies), set()
        for _ in range(50):
            try:
                stub.Classify(beside, timeout=60)
            except grpc.RpcError as error:
                codes.add(error.code())
        rest = list(replies)
    assert [find_band(reply) for reply in (first, *rest)] == [2] * 12
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}


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
            done = before
            async with asyncio.timeout(60):
                while done == before or done != await count_images():  # it has begun, and then it waits
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
    assert "the server is stopping" in error.details()


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
