"""serve.api.open_inference: every malformed request is refused with a sentence, and none as a fault of the server."""

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from serve.api.open_inference.service import SERVICE
from serve.api.open_inference.tensors import read_images, read_outputs
from serve.errors import TensorError
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serve.api.malformed import MALFORMED, Malformed
from tests.serve.api.messages import SIDES, make_files, make_pixels, pack, with_input, with_output
from tests.support import Png, RunningServer

LONGEST_DETAILS = 1000
"""Bytes. Clients limit what comes in headers, to 8 KiB and more."""


def refuse(address: str, request: pb.ModelInferRequest) -> tuple[str, str, str]:
    """The code, the sentence and the reason that a request is refused with."""
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(request)
    error: Any = caught.value
    info = ErrorInfo()
    Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details[0].Unpack(info)
    return error.code().name, error.details(), info.reason


def test_the_malformed_requests_are_at_least_forty() -> None:
    different = {each.request.SerializeToString(deterministic=True) for each in MALFORMED}
    assert len(different) == len(MALFORMED) >= 40


@pytest.mark.parametrize("case", MALFORMED, ids=[each.name for each in MALFORMED])
def test_a_malformed_request_is_refused_with_what_was_wanted(
    server: RunningServer, case: Malformed, caplog: pytest.LogCaptureFixture
) -> None:
    code, sentence, reason = refuse(server.address, case.request)
    assert code == case.code
    assert re.search(case.sentence, sentence), sentence
    assert {"wanted", "got"} <= set(re.findall("[a-z]+", sentence))
    assert reason in {"MODEL_NOT_FOUND", "TENSOR_INVALID", "IMAGE_EMPTY", "IMAGE_UNREADABLE"}
    assert not caplog.records


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_unreadable_image_fails_the_call_with_its_index(server: RunningServer, png: Png, index: int) -> None:
    files = [png(0)] * 3
    files[index] = b"text"
    code, sentence, reason = refuse(server.address, make_files(pack(*files), 3))
    assert (code, reason) == ("INVALID_ARGUMENT", "IMAGE_UNREADABLE")
    assert sentence.startswith(f"image {index}: wanted a PNG")


@pytest.mark.parametrize(
    "request_",
    [
        make_pixels(with_input(0, name="x" * 100_000)),
        make_pixels(with_input(0, datatype="é" * 100_000)),
        make_pixels(*(with_input(index, name="y" * 100) for index in range(1, 1000))),
        make_pixels(with_output("z" * 100_000)),
        make_pixels(lambda request: setattr(request, "model_name", "m" * 100_000)),
        make_pixels(lambda request: request.parameters["triton_" + "p" * 100_000].MergeFrom(pb.InferParameter())),
        make_pixels(
            lambda request: (
                request.inputs[0].parameters["shared_memory_" + "p" * 100_000].MergeFrom(pb.InferParameter())
            )
        ),
    ],
    ids=["input", "type", "inputs", "output", "model", "parameter", "memory"],
)
def test_what_a_caller_sent_is_cut_short_in_a_sentence(server: RunningServer, request_: pb.ModelInferRequest) -> None:
    """Or the client could not read it: it comes in a header."""
    code, sentence, _ = refuse(server.address, request_)
    assert code in {"INVALID_ARGUMENT", "NOT_FOUND"}
    assert len(sentence.encode()) < LONGEST_DETAILS


MILLION = 10**6
MANY_INPUTS = pb.ModelInferRequest.FromString(b"\x2a\x00" * MILLION)
MANY_OUTPUTS = pb.ModelInferRequest.FromString(b"\x32\x0f\x0a\x0dprobabilities" * MILLION)


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (lambda: read_images(MANY_INPUTS, SIDES, 3), "wanted the one input images, got '', ''"),
        (lambda: read_outputs(MANY_OUTPUTS.outputs, False), "at most once, got probabilities, probabilities"),
    ],
    ids=["inputs", "outputs"],
)
def test_a_million_tensors_are_refused_without_a_look_at_each(read: Callable[[], object], sentence: str) -> None:
    """A message of 16 MiB has room for eight million, and the event loop would stand still meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(TensorError, match=sentence):
            read()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < MILLION


def test_a_message_full_of_empty_inputs_is_refused_with_their_number(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE.full_name}/ModelInfer")(b"\x0a\x05bands" + b"\x2a\x00" * MILLION)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(r"got '', .* and 9\d{5} more", error.details())


@pytest.mark.parametrize("method", [each.name for each in SERVICE.methods if not each.client_streaming])
def test_bytes_that_are_no_request_of_the_protocol_are_refused(server: RunningServer, method: str) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{SERVICE.full_name}/{method}")(b"\xff\xff")
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"wanted the message inference.{method}Request, got 2 bytes that are none"


COUNTS = st.integers(1, 3)
SHAPES = {
    "UINT8": COUNTS.map(lambda count: [count, *SIDES]),
    "BYTES": COUNTS.map(lambda count: [count]) | COUNTS.map(lambda count: [count, 1]),
}
OTHER_SHAPES = st.lists(st.integers(-3, 13) | st.integers(-(2**63), 2**63 - 1), max_size=5)
RAW = {
    "UINT8": COUNTS.map(lambda count: bytes(count * 432)),
    "BYTES": st.lists(st.binary(max_size=9), max_size=3).map(lambda files: pack(*files)),
}
TYPED = {
    "UINT8": st.builds(pb.InferTensorContents, uint_contents=st.integers(0, 300).map(lambda level: [level] * 432)),
    "BYTES": st.builds(pb.InferTensorContents, bytes_contents=st.lists(st.binary(max_size=5), max_size=3)),
}


@st.composite
def draw_request(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A request whose input has the right name, and often the right shape and contents."""
    kinds = st.sampled_from(["UINT8", "BYTES"])
    kind = draw(kinds)
    request = pb.ModelInferRequest(model_name="bands")
    tensor = request.inputs.add(name="images", datatype=kind, shape=draw(SHAPES[kind] | OTHER_SHAPES))
    contents = draw(st.sampled_from(["raw", "raw", "typed", "other raw", "other typed", "both", "none"]))
    if contents in {"raw", "both"}:
        request.raw_input_contents.append(draw(RAW[kind] | RAW[kind] | st.binary(max_size=20)))
    if contents == "other raw":
        request.raw_input_contents.extend(draw(st.lists(RAW[draw(kinds)], min_size=1, max_size=2)))
    if contents in {"typed", "both"}:
        tensor.contents.MergeFrom(draw(TYPED[kind]))
    if contents == "other typed":
        tensor.contents.MergeFrom(draw(TYPED[draw(kinds)]))
    return request


@given(draw_request())
def test_any_contents_are_read_as_their_shape_says_or_refused(request: pb.ModelInferRequest) -> None:
    (tensor,) = request.inputs
    try:
        images = read_images(request, SIDES, 3)
    except TensorError:
        return
    assert len(images) == tensor.shape[0]
    for image in images:
        if tensor.datatype == "BYTES":
            assert isinstance(image, bytes)
        else:
            assert isinstance(image, np.ndarray)
            assert (image.shape, image.dtype) == (SIDES, np.uint8)
