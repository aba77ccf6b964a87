"""serve.api.open_inference: ModelStreamInfer, over a real connection."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serve.client.client import Client
from serve.errors import CallError
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serve.api.malformed import MALFORMED
from tests.serve.api.messages import make_files, make_pixels, pack, with_output, with_parameter, with_raw
from tests.support import Png, RunningServer

FINAL = "triton_final_response"


def stream(address: str, requests: Iterator[pb.ModelInferRequest]) -> list[pb.ModelStreamInferResponse]:
    """All that comes back for some requests."""
    with grpc.insecure_channel(address) as channel:
        return list(GRPCInferenceServiceStub(channel).ModelStreamInfer(requests, timeout=60))


def number(requests: Iterator[pb.ModelInferRequest]) -> Iterator[pb.ModelInferRequest]:
    """Requests with their place as their id."""
    for index, request in enumerate(requests):
        request.id = str(index)
        yield request


def make_band(band: int, count: int) -> pb.ModelInferRequest:
    """A request whose images have one bright band."""
    pixels = np.zeros((count, 12, 12, 3), np.uint8)
    pixels[:, 4 * band : 4 * band + 4] = 255
    return make_pixels(with_raw(pixels.tobytes()), count=count)


def find_bands(response: pb.ModelStreamInferResponse) -> list[int]:
    (raw,) = response.infer_response.raw_output_contents
    return np.frombuffer(raw, "<f4").reshape(-1, 3).argmax(axis=1).tolist()


def test_a_stream_answers_each_request_in_order_with_its_id(server: RunningServer) -> None:
    """More of them than may be under way, of sizes that make batches of parts."""
    sizes = [1 + index * 13 % 40 for index in range(300)]
    replies = stream(server.address, number(make_band(size % 3, size) for size in sizes))
    assert [reply.infer_response.id for reply in replies] == [str(index) for index in range(300)]
    assert [find_bands(reply) for reply in replies] == [[size % 3] * size for size in sizes]
    assert all(not reply.error_message for reply in replies)
    assert all(reply.infer_response.parameters[FINAL].bool_param for reply in replies)


def test_an_error_comes_as_a_message_and_the_stream_goes_on(server: RunningServer, png: Png) -> None:
    good = make_files(pack(png(1)))
    bad = [each.request for each in MALFORMED]
    replies = stream(server.address, number(itertools.chain.from_iterable((each, good) for each in bad)))
    assert len(replies) == 2 * len(bad)
    assert [reply.infer_response.id for reply in replies] == [str(index) for index in range(len(replies))]
    for case, failed, answered in zip(MALFORMED, replies[::2], replies[1::2], strict=True):
        assert "wanted" in failed.error_message, case.name
        assert not failed.infer_response.outputs
        assert not answered.error_message
        assert find_bands(answered) == [1]


def test_a_full_queue_makes_a_stream_wait(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """Where a call is refused, as the one beside it shows."""
    server = start_server(repository_folder, max_pending=1)
    slow = make_files(pack(png(2, (2000, 2000))))
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as client:
        replies = GRPCInferenceServiceStub(channel).ModelStreamInfer(number(iter([slow] * 12)), timeout=60)
        first, refused = next(replies), 0
        for _ in range(50):
            try:
                client.classify(png(0), model="bands")
            except CallError as error:
                refused += error.code == "RESOURCE_EXHAUSTED"
        rest = list(replies)
    assert [reply.error_message for reply in (first, *rest)] == [""] * 12
    assert [find_bands(reply) for reply in (first, *rest)] == [[2]] * 12
    assert refused


def test_a_stream_waits_for_room_among_pixels_too(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """One large image at a time may be decoded here."""
    server = start_server(repository_folder, max_pending_pixels=1)
    slow = make_files(pack(png(2, (700, 700)), png(1, (700, 700))), 2)
    replies = stream(server.address, iter([slow] * 20))
    assert [reply.error_message for reply in replies] == [""] * 20
    assert [find_bands(reply) for reply in replies] == [[2, 1]] * 20


def test_a_timeout_ends_the_wait_of_a_request_for_room(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    server = start_server(repository_folder, max_pending=1)
    slow, hasty = make_files(pack(png(2, (3000, 3000)))), make_band(0, 1)
    with_parameter("timeout", int64_param=1)(hasty)
    first, second, third = stream(server.address, iter([slow, hasty, make_band(0, 1)]))
    assert find_bands(first) == [2]
    assert "deadline passed" in second.error_message
    assert find_bands(third) == [0]


def test_a_client_that_does_not_read_is_not_read_from_and_loses_nothing(server: RunningServer) -> None:
    """The client takes 64 KiB ahead of its reading; the answers together are larger."""
    request = pb.ModelInferRequest(model_name="grey-bands", raw_input_contents=[bytes(256 * 144)])
    request.inputs.add(name="images", datatype="UINT8", shape=(256, 12, 12, 1))
    with_output("probabilities", classification=pb.InferParameter(int64_param=3))(request)
    total = 300
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]

    async def main() -> tuple[int, int]:
        async with grpc.aio.insecure_channel(server.address, options=options) as channel:
            call = GRPCInferenceServiceStub(channel).ModelStreamInfer()

            async def write() -> None:
                for _ in range(total):
                    await call.write(request)
                await call.done_writing()

            async def count_images() -> int:
                return (await server.ask_statistics("grey-bands", "1")).images

            before = await count_images()
            writing = asyncio.create_task(write())
            done = -1
            while done != await count_images():
                done = await count_images()
                await asyncio.sleep(0.5)
            replies = 0
            async for _ in call:
                replies += 1
            await writing
            return (done - before) // 256, replies

    done, replies = asyncio.run(main())
    assert 0 < done < total
    assert replies == total


def test_a_stream_is_drained_at_a_stop(
    start_server: Callable[..., RunningServer], repository_folder: Path, png: Png
) -> None:
    """What was sent before is answered, and the caller is told that there is no more."""
    server = start_server(repository_folder)
    going_on = threading.Event()

    def ask() -> Iterator[pb.ModelInferRequest]:
        yield from [make_files(pack(png(1, (1500, 1500))))] * 5
        going_on.wait()  # and never say that there is no more

    with grpc.insecure_channel(server.address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        replies: Any = stub.ModelStreamInfer(ask())
        found = [next(replies)]
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(grpc.RpcError) as caught:
            found.extend(replies)
        stopping.join()
        going_on.set()
    error: Any = caught.value
    assert [find_bands(reply) for reply in found] == [[1]] * 5
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "the server is stopping" in error.details()


def test_a_client_that_leaves_a_stream_leaves_nothing_behind(server: RunningServer, png: Png) -> None:
    slow = make_files(pack(png(0, (2000, 2000))))
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(5):
            call = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([slow] * 20))
            next(call)
            call.cancel()
        assert GRPCInferenceServiceStub(channel).ModelInfer(make_band(2, 1), timeout=30).model_name == "bands"
    runner = server.server.registry.find("bands", "")
    for _ in range(100):
        if not runner.admission.images:
            break
        threading.Event().wait(0.1)
    assert (runner.admission.images, runner.admission.image_bytes) == (0, 0)
