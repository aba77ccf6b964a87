"""What tritonclient gets from a server: `python triton_checks.py CHECK FILE`, in an environment that has it.

The stubs of tritonclient define the proto package `inference`, as ours do, so a process has one of the two. FILE is
JSON: the server's address, image files, pictures, what our own API says of both, and malformed requests.
"""

import asyncio
import base64
import json
import queue
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2
from tritonclient.utils import InferenceServerException

GIVEN: dict[str, Any] = json.loads(Path(sys.argv[2]).read_text())
MODEL = "bands"
FILES = [base64.b64decode(each) for each in GIVEN["files"]]
EXPECTED = np.array(GIVEN["expected"], np.float32)
PIXELS = np.array(GIVEN["pixels"], np.uint8)
EXPECTED_OF_PIXELS = np.array(GIVEN["expected_of_pixels"], np.float32)


def take_files(shape: tuple[int, ...] = ()) -> InferInput:
    """The image files as an input."""
    array = np.array(FILES, np.object_).reshape(shape or (len(FILES),))
    taken = InferInput("images", list(array.shape), "BYTES")
    taken.set_data_from_numpy(array)
    return taken


def take_pixels() -> InferInput:
    """The pictures as an input."""
    taken = InferInput("images", list(PIXELS.shape), "UINT8")
    taken.set_data_from_numpy(PIXELS)
    return taken


def is_right(result: Any, expected: np.ndarray) -> None:
    """Assert that a result has some probabilities."""
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected, atol=1e-6)


def find_error(call: Callable[[], object]) -> Any:
    """What a call fails with."""
    try:
        call()
    except (InferenceServerException, grpc.RpcError) as error:
        return error
    raise AssertionError("wanted a failure, got an answer")


def check_infer(client: InferenceServerClient) -> None:
    """Image files of either shape and pictures, raw, also compressed."""
    for shape in ((len(FILES),), (len(FILES), 1)):
        result = client.infer(MODEL, [take_files(shape)], request_id="7")
        assert result.get_response().id == "7"
        is_right(result, EXPECTED)
    is_right(client.infer(MODEL, [take_pixels()], model_version="1"), EXPECTED_OF_PIXELS)
    is_right(client.infer(MODEL, [take_pixels()], compression_algorithm="gzip"), EXPECTED_OF_PIXELS)


def check_typed(client: InferenceServerClient) -> None:
    """Typed contents, which the client sends only by its stub."""
    for datatype, shape, contents, expected in [
        ("BYTES", [len(FILES)], {"bytes_contents": FILES}, EXPECTED),
        ("UINT8", PIXELS.shape, {"uint_contents": PIXELS.ravel().tolist()}, EXPECTED_OF_PIXELS),
    ]:
        request = service_pb2.ModelInferRequest(model_name=MODEL)
        request.inputs.add(
            name="images", datatype=datatype, shape=shape, contents=service_pb2.InferTensorContents(**contents)
        )
        is_right(tritonclient.grpc.InferResult(client._client_stub.ModelInfer(request)), expected)


def check_classification(client: InferenceServerClient) -> None:
    """The extension: `value:index:label`, most probable first."""
    wanted = [InferRequestedOutput("probabilities", class_count=2)]
    found = client.infer(MODEL, [take_files()], outputs=wanted).as_numpy("probabilities")
    assert found.shape == (len(FILES), 2)
    for row, probabilities in zip(found, EXPECTED, strict=True):
        parts = [element.decode().split(":") for element in row]
        assert [int(index) for _, index, _ in parts] == np.argsort(-probabilities, kind="stable")[:2].tolist()
        assert [label for _, _, label in parts] == [GIVEN["labels"][int(index)] for _, index, _ in parts]
        assert all(re.fullmatch(r"[01]\.\d{6}", value) for value, _, _ in parts)
        np.testing.assert_allclose([float(value) for value, _, _ in parts], np.sort(probabilities)[::-1][:2], atol=1e-6)


def check_async(client: InferenceServerClient) -> None:
    """Many calls at a time, with a callback each."""
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for _ in range(200):
        client.async_infer(MODEL, [take_pixels()], lambda result, error: done.put((result, error)))
    for _ in range(200):
        result, error = done.get(timeout=30)
        assert error is None
        is_right(result, EXPECTED_OF_PIXELS)


def check_stream(client: InferenceServerClient) -> None:
    """A stream, in which an unknown model is an error that ends nothing."""
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)))
    for number in range(200):
        model = "nobody" if number % 10 == 0 else MODEL
        client.async_stream_infer(
            model, [take_files()], request_id=str(number), enable_empty_final_response=number % 2 == 0
        )
    client.stop_stream()
    for number in range(200):
        result, error = done.get(timeout=30)
        if number % 10 == 0:
            assert result is None
            assert "wanted one of the models" in str(error)
        else:
            assert error is None
            assert result.get_response().id == str(number)
            assert result.get_response().parameters["triton_final_response"].bool_param
            is_right(result, EXPECTED)
    assert done.empty()


def check_aio(client: InferenceServerClient) -> None:
    """The client on asyncio: calls at the same time, and a stream."""

    async def main() -> None:
        async with tritonclient.grpc.aio.InferenceServerClient(GIVEN["address"]) as asynchronous:
            assert await asynchronous.is_server_ready()
            results = await asyncio.gather(*(asynchronous.infer(MODEL, [take_files()]) for _ in range(50)))
            for result in results:
                is_right(result, EXPECTED)

            async def ask() -> Any:
                for number in range(50):
                    yield {"model_name": MODEL, "inputs": [take_pixels()], "request_id": str(number)}

            ids = []
            async for result, error in asynchronous.stream_infer(ask()):
                assert error is None
                is_right(result, EXPECTED_OF_PIXELS)
                ids.append(result.get_response().id)
            assert ids == [str(number) for number in range(50)]

    asyncio.run(main())


def check_descriptions(client: InferenceServerClient) -> None:
    """Readiness, metadata, configuration, statistics."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata().name == "inkling"
    metadata = client.get_model_metadata(MODEL)
    assert list(metadata.versions) == ["1", "2"]
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [
        ("images", "UINT8", [-1, 12, 12, 3])
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.outputs] == [
        ("probabilities", "FP32", [-1, 3])
    ]
    config = client.get_model_config(MODEL, as_json=True)["config"]
    assert config["platform"] == "onnxruntime_onnx"
    assert config["max_batch_size"] == 256
    assert config["input"] == [
        {"name": "images", "data_type": "TYPE_UINT8", "format": "FORMAT_NHWC", "dims": ["12", "12", "3"]}
    ]
    assert config["output"] == [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["3"]}]
    before = client.get_inference_statistics(MODEL, "2").model_stats[0]
    client.infer(MODEL, [take_pixels()])
    after = client.get_inference_statistics(MODEL, "2").model_stats[0]
    assert after.inference_count == before.inference_count + len(PIXELS)
    assert after.inference_stats.success.count == before.inference_stats.success.count + len(PIXELS)
    assert {each.name for each in client.get_inference_statistics().model_stats} == {"bands", "grey-bands"}


def check_repository(client: InferenceServerClient) -> None:
    """The index, and the refusal to load and unload."""
    index = client.get_model_repository_index()
    assert {(each.name, each.version, each.state) for each in index.models} == {
        ("bands", "1", "READY"),
        ("bands", "2", "READY"),
        ("grey-bands", "1", "READY"),
    }
    for change in (client.load_model, client.unload_model):
        error = find_error(lambda change=change: change(MODEL))
        assert error.status() == "StatusCode.FAILED_PRECONDITION"
        assert "ed with --model-control explicit" in error.message()


def check_control(client: InferenceServerClient) -> None:
    """A server whose models clients change: unload and load, the index in between, and an unknown model."""
    is_right(client.infer(MODEL, [take_files()]), EXPECTED)
    client.unload_model(MODEL)
    assert not client.is_model_ready(MODEL)
    unloaded = [each for each in client.get_model_repository_index().models if each.name == MODEL]
    assert {(each.state, each.reason) for each in unloaded} == {("UNAVAILABLE", "unloaded")}
    assert find_error(lambda: client.infer(MODEL, [take_files()])).status() == "StatusCode.NOT_FOUND"
    client.load_model(MODEL)
    assert client.is_model_ready(MODEL)
    is_right(client.infer(MODEL, [take_files()]), EXPECTED)
    for change in (client.load_model, client.unload_model):
        error = find_error(lambda change=change: change("nobody"))
        assert error.status() == "StatusCode.NOT_FOUND"
        assert "wanted one of the models" in error.message()


def check_malformed(client: InferenceServerClient) -> None:
    """Every malformed request, by unary calls and in one stream."""
    cases = GIVEN["malformed"]
    requests = [service_pb2.ModelInferRequest.FromString(bytes.fromhex(each["request"])) for each in cases]
    for case, request in zip(cases, requests, strict=True):
        error = find_error(lambda request=request: client._client_stub.ModelInfer(request))
        assert error.code().name == case["code"], case["name"]
        assert re.search(case["sentence"], error.details()), case["name"]
    replies = list(client._client_stub.ModelStreamInfer(iter(requests)))
    for case, reply in zip(cases, replies, strict=True):
        assert re.search(case["sentence"], reply.error_message), case["name"]


CHECKS: dict[str, Callable[[InferenceServerClient], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}

if __name__ == "__main__":
    with InferenceServerClient(GIVEN["address"]) as connected:
        CHECKS[sys.argv[1]](connected)
    print(f"{sys.argv[1]} is right")
