"""serve.api.inkling_v1: what a caller gets for good requests and for bad ones, over a real connection."""

import asyncio
import gc
import io
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from PIL import Image

from serve import errors
from serve.api import inkling_v1 as service
from serve.client.client import Client
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.support import LABELS, Png, RunningServer

HUGE_SIDE = 50_000
METHODS = ("Classify", "BatchClassify", "ListModels", "GetModel")


def huge_png() -> bytes:
    """A valid PNG of 50,000 x 50,000 pixels in about two kilobytes (its rows end early)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    header = HUGE_SIDE.to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(2_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("band", range(3))
def test_an_image_gets_its_label_first_and_probabilities_that_sum_to_one(client: Client, png: Png, band: int) -> None:
    answer = client.classify(png(band), model="bands")
    assert answer.best.label == LABELS["en"][band]
    assert answer.best.index == band
    assert [each.probability for each in answer.classes] == sorted(
        (each.probability for each in answer.classes), reverse=True
    )
    assert sum(each.probability for each in answer.classes) == pytest.approx(1, abs=1e-6)


def test_an_image_of_another_size_is_prepared_by_the_models_policy(client: Client, png: Png) -> None:
    assert client.classify(png(2, (90, 60), "L"), model="bands").best.label == "bottom"


def test_a_large_image_is_answered_as_a_small_one(client: Client, png: Png) -> None:
    assert client.classify(png(1, (900, 900)), model="bands").best.label == "middle"


GARBAGE, NOT_UTF8 = b"\xff\xff", b"\x0a\x02\xff\xfe"


@pytest.mark.parametrize(
    ("method", "data"),
    [*((name, GARBAGE) for name in METHODS), *((name, NOT_UTF8) for name in METHODS if name != "ListModels")],
)
def test_bytes_that_are_no_request_are_an_invalid_argument(
    server: RunningServer, method: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Of gRPC itself the caller would get UNKNOWN and the name of an exception, and the log a traceback."""
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/inkling.v1.ClassifierService/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            call(data)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"wanted the message inkling.v1.{method}Request, got {len(data)} bytes that are none"
    assert b"REQUEST_UNREADABLE" in dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert not caplog.records


def test_the_prepared_image_comes_back_where_asked_for(client: Client, png: Png) -> None:
    asked = client.classify(png(0), model="bands", return_prepared=True)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(asked.prepared_png))), np.asarray(Image.open(io.BytesIO(png(0))))
    )
    assert not client.classify(png(0), model="bands").prepared_png


def test_others_have_their_turn_between_the_prepared_images_of_a_batch(
    server: RunningServer, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes up to 5 ms to write, and a call may want 256."""
    turns, turns_at_images, write = 0, [], service.to_png

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def note_turn(pixels: np.ndarray) -> bytes:
        turns_at_images.append(turns)
        return write(pixels)

    monkeypatch.setattr(service, "to_png", note_turn)
    counting = asyncio.run_coroutine_threadsafe(count_turns(), server.loop)
    options = pb.ClassifyOptions(return_prepared=True)
    request = pb.BatchClassifyRequest(model="bands", images=[png(0)] * 20, options=options)
    with grpc.insecure_channel(server.address) as channel:
        reply = ClassifierServiceStub(channel).BatchClassify(request)
    counting.cancel()
    assert all(result.classification.prepared_png for result in reply.results)
    assert len(set(turns_at_images)) == 20


def test_the_times_are_there_and_fit_together(client: Client, png: Png) -> None:
    timing = client.classify(png(0), model="bands").timing
    assert timing.batch_size == 1
    parts = timing.queue_us + timing.decode_us + timing.prepare_us + timing.inference_us
    assert 0 < parts <= timing.total_us + 5


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "IMAGE_EMPTY"),
        (b"a text file, which is no image\n", "IMAGE_UNREADABLE"),
        (huge_png(), "IMAGE_TOO_LARGE"),
    ],
)
def test_bad_bytes_are_an_invalid_argument_with_a_reason(client: Client, image: bytes, reason: str) -> None:
    with pytest.raises(CallError, match="wanted") as caught:
        client.classify(image, model="bands")
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", reason)


def test_a_truncated_image_is_told_apart(client: Client, png: Png) -> None:
    whole = png(0, (200, 200), "L")
    with pytest.raises(CallError) as caught:
        client.classify(whole[: len(whole) // 2], model="bands")
    assert caught.value.reason == "IMAGE_TRUNCATED"


def test_the_client_refuses_a_message_over_the_limit_before_it_is_sent(client: Client) -> None:
    with pytest.raises(CallError, match="at most 16,777,216 bytes") as caught:
        client.classify(bytes(17 * 2**20), model="bands")
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_the_server_refuses_a_message_over_the_limit_and_answers_the_next(server: RunningServer, png: Png) -> None:
    with Client(server.address, max_message_bytes=2**30) as careless:
        with pytest.raises(CallError) as caught:
            careless.classify(bytes(100 * 2**20), model="bands")
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        assert careless.classify(png(0), model="bands").best.label == "top"


def test_each_image_of_a_batch_has_its_own_outcome(client: Client, png: Png) -> None:
    outcomes = client.classify_many([png(0), b"", png(2, (900, 900)), b"text", huge_png(), png(1)], model="bands")
    reasons = [outcome.reason if isinstance(outcome, CallError) else outcome.best.label for outcome in outcomes]
    assert reasons == ["top", "IMAGE_EMPTY", "bottom", "IMAGE_UNREADABLE", "IMAGE_TOO_LARGE", "middle"]


@pytest.mark.parametrize("count", [0, 257])
def test_a_batch_out_of_bounds_is_refused_as_a_whole(client: Client, png: Png, count: int) -> None:
    with pytest.raises(CallError, match=f"wanted 1 to 256 images, got {count}"):
        client.classify_many([png(0)] * count, model="bands")


def test_callers_at_the_same_time_each_get_their_own_answer(client: Client, png: Png) -> None:
    bands = [index * 7 % 3 for index in range(300)]
    images = [png(band) for band in range(3)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda band: client.classify(images[band], model="bands").best.index, bands))
    assert answers == bands


def test_a_full_queue_is_refused_at_once_with_a_time_to_come_again(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    server = start_server(repository_folder, max_pending=1)
    with grpc.insecure_channel(server.address) as channel:
        stub = ClassifierServiceStub(channel)
        request = pb.ClassifyRequest(model="bands", image=png(0, (3000, 3000)))
        calls = [stub.Classify.future(request) for _ in range(8)]
        refused = [call for call in calls if call.exception() is not None]
    assert 0 < len(refused) < len(calls)
    trailers = dict(refused[0].trailing_metadata())
    assert refused[0].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(trailers["grpc-retry-pushback-ms"]) > 0
    details = {detail.TypeName(): detail for detail in Status.FromString(trailers["grpc-status-details-bin"]).details}
    info, retry = ErrorInfo(), RetryInfo()
    assert details["google.rpc.ErrorInfo"].Unpack(info)
    assert details["google.rpc.RetryInfo"].Unpack(retry)
    assert (info.reason, info.domain) == ("OVERLOADED", "inkling")
    assert retry.retry_delay.ToMilliseconds() == int(trailers["grpc-retry-pushback-ms"])


@pytest.mark.parametrize(
    ("image", "model"),
    [(b"", "nobody"), (b"", "bands"), (b"text", "bands"), (b"\x89PNG\r\n\x1a\n" + bytes(70_000), "bands")],
    ids=["no model", "empty", "text", "large"],
)
def test_a_refusal_is_gone_when_it_is_answered(client: Client, image: bytes, model: str) -> None:
    """Not kept in a circle with its frames and its request: a full pass of the collector holds up every call."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            with pytest.raises(CallError):
                client.classify(image, model=model)
            assert isinstance(client.classify_many([image] * 3, model="bands")[0], CallError)
        kept = [each for each in gc.get_objects() if isinstance(each, errors.RequestError)]
    finally:
        gc.enable()
    assert len(kept) <= 6  # of 40: those of the last calls may not have been let go yet
