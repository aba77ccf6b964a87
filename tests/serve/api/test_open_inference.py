"""serve.api.open_inference: what a client of the protocol gets for good requests, over a real connection."""

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from serve.api.open_inference import tensors
from serve.client.client import Client
from serve.images.pixels import to_png
from serve.model_file import spec
from serve.pb import open_inference_pb2 as pb
from serve.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serve.api.messages import make_files, make_pixels, pack, with_model, with_output, with_parameter, with_raw
from tests.support import LABELS, Png, draw_images


def read_probabilities(response: pb.ModelInferResponse) -> np.ndarray:
    """The one output of a response."""
    (output,), (raw,) = response.outputs, response.raw_output_contents
    assert (output.name, output.datatype) == ("probabilities", "FP32")
    return np.frombuffer(raw, "<f4").reshape(output.shape)


def read_texts(raw: bytes) -> list[str]:
    """The elements of a raw tensor of BYTES."""
    texts, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return texts


def classify(client: Client, image: bytes, model: str = "bands") -> list[float]:
    """The probabilities by class that our own API gives."""
    found = {each.index: each.probability for each in client.classify(image, model=model).classes}
    return [found[index] for index in sorted(found)]


def test_the_tensors_have_the_names_that_the_model_file_gives_them() -> None:
    assert (tensors.INPUT, tensors.OUTPUT) == (spec.INPUT, spec.OUTPUT)


@pytest.mark.parametrize("shape", [(3,), (3, 1)], ids=str)
@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
def test_image_files_get_the_answers_of_classify(
    stub: GRPCInferenceServiceStub, client: Client, png: Png, shape: tuple[int, ...], typed: bool
) -> None:
    files = [png(2), png(0, (90, 60), "L"), png(1, (900, 900))]
    request = make_files(pack(*files), *shape)
    if typed:
        request.ClearField("raw_input_contents")
        request.inputs[0].contents.bytes_contents.extend(files)
    found = read_probabilities(stub.ModelInfer(request))
    assert found.argmax(axis=1).tolist() == [2, 0, 1]
    assert found == pytest.approx(np.array([classify(client, file) for file in files]), abs=1e-6)


@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
def test_pixels_get_the_answers_of_classify_for_the_same_picture(
    stub: GRPCInferenceServiceStub, client: Client, typed: bool
) -> None:
    """The policy leaves a picture of the model's size as it is."""
    pixels = draw_images(5)
    request = make_pixels(with_raw(pixels.tobytes()), count=5)
    if typed:
        request.ClearField("raw_input_contents")
        request.inputs[0].contents.uint_contents.extend(pixels.ravel().tolist())
    found = read_probabilities(stub.ModelInfer(request))
    wanted = [classify(client, to_png(each)) for each in pixels]
    assert found == pytest.approx(np.array(wanted), abs=1e-6)


def test_no_policy_runs_on_pixels(stub: GRPCInferenceServiceStub) -> None:
    """The policy of grey-bands would centre the strokes; the tensor is the net's input as it stands."""
    pixels = np.zeros((1, 12, 12, 1), np.uint8)
    pixels[:, 8:] = 255
    request = pb.ModelInferRequest(model_name="grey-bands", raw_input_contents=[pixels.tobytes()])
    request.inputs.add(name="images", datatype="UINT8", shape=pixels.shape)
    brightness = np.array([0, 0, 10])
    wanted = np.exp(brightness) / np.exp(brightness).sum()
    assert read_probabilities(stub.ModelInfer(request))[0] == pytest.approx(wanted, abs=1e-5)


def test_the_largest_batch_is_answered(stub: GRPCInferenceServiceStub) -> None:
    found = read_probabilities(stub.ModelInfer(make_pixels(count=256)))
    assert found.shape == (256, 3)
    assert found == pytest.approx(np.full((256, 3), 1 / 3), abs=1e-6)


def test_a_response_names_what_answered_and_repeats_the_id(stub: GRPCInferenceServiceStub) -> None:
    request = make_pixels()
    request.id = "number 7"
    response = stub.ModelInfer(request)
    assert (response.model_name, response.model_version, response.id) == ("bands", "2", "number 7")
    older = stub.ModelInfer(make_pixels(with_model("bands", "1")))
    assert (older.model_version, older.id) == ("1", "")


def test_an_output_that_is_asked_for_by_name_is_the_same(stub: GRPCInferenceServiceStub) -> None:
    asked = stub.ModelInfer(make_pixels(with_output("probabilities"), with_parameter("mine", string_param="ignored")))
    assert asked == stub.ModelInfer(make_pixels())


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 2), (3, 3), (99, 3), (2**62, 3)])
def test_classes_are_sorted_by_value_with_index_and_label(
    stub: GRPCInferenceServiceStub, client: Client, png: Png, asked: int, given: int
) -> None:
    files = [png(1), png(2)]
    request = make_files(pack(*files), 2)
    with_output("probabilities", classification=pb.InferParameter(int64_param=asked))(request)
    response = stub.ModelInfer(request)
    (output,), (raw,) = response.outputs, response.raw_output_contents
    assert (output.name, output.datatype, list(output.shape)) == ("probabilities", "BYTES", [2, given])
    wanted = [
        f"{each.probability:.6f}:{each.index}:{LABELS['en'][each.index]}"
        for file in files
        for each in client.classify(file, model="bands").classes[:given]
    ]
    assert read_texts(raw) == wanted
    assert wanted[0].endswith(":1:middle")


def test_a_timeout_that_passes_is_a_deadline(stub: GRPCInferenceServiceStub, png: Png) -> None:
    request = make_files(pack(png(0, (3000, 3000))))
    with_parameter("timeout", int64_param=1)(request)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    for value in (0, 10_000_000, 2**63 - 1):
        with_parameter("timeout", uint64_param=value)(patient := make_pixels())
        assert stub.ModelInfer(patient).model_name == "bands"


def test_callers_of_both_protocols_at_the_same_time_get_their_own_answers(
    stub: GRPCInferenceServiceStub, client: Client, png: Png
) -> None:
    """They share the queue and the batches of one model."""
    pixels = np.zeros((3, 12, 12, 3), np.uint8)
    for band in range(3):
        pixels[band, 4 * band : 4 * band + 4] = 255

    def ask(number: int) -> bool:
        band = number * 7 % 3
        if number % 3 == 0:
            return client.classify(png(band), model="bands").best.index == band
        if number % 3 == 1:
            request = make_pixels(with_raw(pixels[[band, 0]].tobytes()), count=2)
            return read_probabilities(stub.ModelInfer(request)).argmax(axis=1).tolist() == [band, 0]
        return read_probabilities(stub.ModelInfer(make_files(pack(png(band))))).argmax() == band

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(300)))
