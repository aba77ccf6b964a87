"""The Open Inference Protocol over REST: by tritonclient.http in a process of its own, and by requests of our own."""

import ast
import base64
import json
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from serve.client.client import Client
from serve.images.pixels import to_png
from tests.serve.web.conftest import Ask
from tests.serve.web.doors import Door
from tests.support import Png, RunningServer, draw_images

PYTHON = os.environ.get("INKLING_TRITON_PYTHON", "")
SCRIPT = Path(__file__).with_name("triton_http_checks.py")
CHECKS = [
    node.name.removeprefix("check_")
    for node in ast.parse(SCRIPT.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
INFER = "/v2/models/bands/infer"
HEADER = "Inference-Header-Content-Length"


def has_client() -> bool:
    """Whether the other Python can import the client."""
    command = [PYTHON, "-c", "import tritonclient.http"]
    return bool(PYTHON) and subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def ask_probabilities(server: RunningServer, images: list[bytes]) -> list[list[float]]:
    """What our own API says."""
    with Client(server.address) as client:
        answers = [client.classify(image, model="bands").classes for image in images]
    return [[each.probability for each in sorted(answer, key=lambda each: each.index)] for answer in answers]


@pytest.fixture(scope="module")
def given(web_server: RunningServer, door: Door, png: Png, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script gets: it cannot import anything of ours."""
    files, pixels = [png(2), png(0, (90, 60), "L"), png(1, (300, 300))], draw_images(5)
    facts = {
        "address": door.url.removeprefix("http://"),
        "files": [base64.b64encode(file).decode() for file in files],
        "expected": ask_probabilities(web_server, files),
        "pixels": pixels.tolist(),
        "expected_of_pixels": ask_probabilities(web_server, [to_png(each) for each in pixels]),
    }
    path = tmp_path_factory.mktemp("triton") / "given.json"
    path.write_text(json.dumps(facts))
    return path


@pytest.mark.skipif(not has_client(), reason="needs INKLING_TRITON_PYTHON, a Python that has tritonclient[http]")
@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient_over_http_gets_what_it_expects(given: Path, check: str) -> None:
    command = [PYTHON, str(SCRIPT), check, str(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, f"{check} is right\n"), done.stderr


def test_pixels_in_json_get_probabilities_in_json(get: Ask, web_server: RunningServer) -> None:
    pixels = draw_images(2)
    tensor = {"name": "images", "datatype": "UINT8", "shape": pixels.shape, "data": pixels.tolist()}
    answer = get(INFER, json.dumps({"id": "seven", "inputs": [tensor]}).encode())
    assert answer.code == 200
    assert (answer.json["id"], answer.json["model_name"], answer.json["model_version"]) == ("seven", "bands", "2")
    (output,) = answer.json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 3])
    expected = ask_probabilities(web_server, [to_png(each) for each in pixels])
    np.testing.assert_allclose(np.reshape(output["data"], (2, 3)), expected, atol=1e-6)


def test_an_image_file_in_json_is_base64(get: Ask, png: Png, web_server: RunningServer) -> None:
    data = [[base64.b64encode(png(2)).decode()]]
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1, 1], "data": data}
    wanted = {"name": "probabilities", "parameters": {"classification": 1}}
    answer = get(INFER, json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode())
    (text,) = answer.json["outputs"][0]["data"]
    value, index, label = text.split(":")
    assert (index, label) == ("2", "bottom")
    assert float(value) == pytest.approx(max(ask_probabilities(web_server, [png(2)])[0]), abs=1e-6)


def test_tensors_as_bytes_follow_the_json_in_both_directions(get: Ask, png: Png, web_server: RunningServer) -> None:
    raw = struct.pack("<I", len(png(1))) + png(1)
    tensor = {
        "name": "images",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = get(INFER, head + raw, {HEADER: str(len(head))})
    assert answer.code == 200
    length = int(answer.headers[HEADER.lower()])
    described = json.loads(answer.body[:length])
    assert described["outputs"][0]["parameters"] == {"binary_data_size": 12}
    found = np.frombuffer(answer.body[length:], "<f4")
    np.testing.assert_allclose(found, ask_probabilities(web_server, [png(1)])[0], atol=1e-6)


def test_health_and_metadata_are_told(get: Ask) -> None:
    assert get("/v2/health/live").code == get("/v2/health/ready").code == 200
    assert get("/v2/models/bands/ready").json == get("/v2/models/bands/versions/1/ready").json == {"ready": True}
    assert get("/v2/models/nobody/ready").code == 503
    assert get("/v2").json["name"] == "inkling"
    assert "binary_tensor_data" in get("/v2").json["extensions"]
    assert get("/v2/models/bands/versions/1").json["versions"] == ["1"]
    assert get("/v2/models/nobody").json == {"error": "wanted one of the models bands, grey-bands; got 'nobody'"}


def test_the_repository_is_listed_and_changed_only_where_that_is_on(get: Ask) -> None:
    index = get("/v2/repository/index", b'{"ready": true}').json
    assert {(each["name"], each["version"], each["state"]) for each in index} == {
        ("bands", "1", "READY"),
        ("bands", "2", "READY"),
        ("grey-bands", "1", "READY"),
    }
    answer = get("/v2/repository/models/bands/unload", b"")
    assert answer.code == 400
    assert "--model-control explicit" in answer.json["error"]


def test_an_unknown_path_has_the_error_of_the_protocol(get: Ask) -> None:
    answer = get("/v2/nothing")
    assert answer.code == 404
    assert set(answer.json) == {"error"}


def test_json_may_begin_with_a_byte_order_mark(get: Ask) -> None:
    assert get("/v2/repository/index", b'\xef\xbb\xbf{"ready": true}').code == 200
