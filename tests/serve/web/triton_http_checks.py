"""What tritonclient.http gets from the door: `python triton_http_checks.py CHECK FILE`, in an environment that has it.

The stubs of tritonclient define the proto package `inference`, as ours do, so a process has one of the two. FILE is
JSON: the door's address, image files, pictures, and what our own API says of both.
"""

import asyncio
import base64
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http.aio
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

GIVEN: dict[str, Any] = json.loads(Path(sys.argv[2]).read_text())
MODEL = "bands"
FILES = [base64.b64decode(each) for each in GIVEN["files"]]
EXPECTED = np.array(GIVEN["expected"], np.float32)
PIXELS = np.array(GIVEN["pixels"], np.uint8)
EXPECTED_OF_PIXELS = np.array(GIVEN["expected_of_pixels"], np.float32)


def take(array: np.ndarray, datatype: str, is_binary: bool) -> InferInput:
    """An input."""
    taken = InferInput("images", list(array.shape), datatype)
    taken.set_data_from_numpy(array, binary_data=is_binary)
    return taken


def take_files(is_binary: bool = True) -> InferInput:
    """The image files as an input: as they are, or in Base64."""
    return take(np.array(FILES if is_binary else GIVEN["files"], np.object_), "BYTES", is_binary)


def is_right(result: Any, expected: np.ndarray) -> None:
    """Assert that a result has some probabilities."""
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected, atol=1e-6)


def check_binary(client: InferenceServerClient) -> None:
    """Tensors as bytes, in both directions, also compressed on the way there."""
    result = client.infer(MODEL, [take_files()], request_id="7")
    assert result.get_response()["id"] == "7"
    assert "data" not in result.get_response()["outputs"][0]
    is_right(result, EXPECTED)
    is_right(client.infer(MODEL, [take(PIXELS, "UINT8", True)], model_version="1"), EXPECTED_OF_PIXELS)
    for name in ("gzip", "deflate"):
        is_right(client.infer(MODEL, [take_files()], request_compression_algorithm=name), EXPECTED)
        is_right(client.infer(MODEL, [take_files()], response_compression_algorithm=name), EXPECTED)


def check_json(client: InferenceServerClient) -> None:
    """Tensors in JSON, in both directions."""
    wanted = [InferRequestedOutput("probabilities", binary_data=False)]
    result = client.infer(MODEL, [take(PIXELS, "UINT8", False)], outputs=wanted)
    assert "data" in result.get_response()["outputs"][0]
    is_right(result, EXPECTED_OF_PIXELS)
    is_right(client.infer(MODEL, [take_files(False)], outputs=wanted), EXPECTED)


def check_classification(client: InferenceServerClient) -> None:
    """The extension: `value:index:label`, most probable first, as bytes and in JSON."""
    for is_binary in (True, False):
        wanted = [InferRequestedOutput("probabilities", binary_data=is_binary, class_count=2)]
        found = client.infer(MODEL, [take_files()], outputs=wanted).as_numpy("probabilities")
        assert found.shape == (len(FILES), 2)
        for row, probabilities in zip(found, EXPECTED, strict=True):
            texts = [each.decode() if isinstance(each, bytes) else each for each in row]
            assert [int(text.split(":")[1]) for text in texts] == np.argsort(-probabilities, kind="stable")[:2].tolist()
            assert all(re.fullmatch(r"[01]\.\d{6}:\d:\w+", text) for text in texts)


def check_async(client: InferenceServerClient) -> None:
    """Many calls at a time."""
    asked = [client.async_infer(MODEL, [take(PIXELS, "UINT8", True)]) for _ in range(100)]
    for each in asked:
        is_right(each.get_result(), EXPECTED_OF_PIXELS)


def check_aio(client: InferenceServerClient) -> None:
    """The client on asyncio."""

    async def main() -> None:
        async with tritonclient.http.aio.InferenceServerClient(GIVEN["address"]) as asynchronous:
            assert await asynchronous.is_server_ready()
            asked = [asynchronous.infer(MODEL, [take_files()]) for _ in range(50)]
            for result in await asyncio.gather(*asked):
                is_right(result, EXPECTED)

    asyncio.run(main())


def check_descriptions(client: InferenceServerClient) -> None:
    """Readiness, metadata, configuration, statistics, the repository."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(MODEL)
    assert metadata["versions"] == ["1", "2"]
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 12, 12, 3]}]
    config = client.get_model_config(MODEL, "1")
    assert config["max_batch_size"] == 256
    assert config["input"][0]["dims"] == [12, 12, 3]
    before = client.get_inference_statistics(MODEL, "2")["model_stats"][0]["inference_count"]
    client.infer(MODEL, [take(PIXELS, "UINT8", True)])
    assert client.get_inference_statistics(MODEL, "2")["model_stats"][0]["inference_count"] == before + len(PIXELS)
    assert {each["name"] for each in client.get_inference_statistics()["model_stats"]} == {"bands", "grey-bands"}
    assert {each["name"] for each in client.get_model_repository_index()} == {"bands", "grey-bands"}


def check_failures(client: InferenceServerClient) -> None:
    """Errors are exceptions with the server's sentence."""
    for call, sentence in [
        (lambda: client.infer("nobody", [take_files()]), "wanted one of the models"),
        (lambda: client.infer(MODEL, [take(PIXELS[:, :5], "UINT8", True)]), "wanted the shape"),
        (lambda: client.load_model(MODEL), "loaded with --model-control explicit"),
        (lambda: client.unload_model(MODEL), "unloaded with --model-control explicit"),
        (lambda: client.get_model_metadata("nobody"), "wanted one of the models"),
    ]:
        try:
            call()
        except InferenceServerException as error:
            assert sentence in str(error)  # noqa: PT017  # there is no pytest here
        else:
            raise AssertionError("wanted a failure, got an answer")


CHECKS: dict[str, Callable[[InferenceServerClient], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}

if __name__ == "__main__":
    with InferenceServerClient(GIVEN["address"], concurrency=4) as connected:
        CHECKS[sys.argv[1]](connected)
    print(f"{sys.argv[1]} is right")
