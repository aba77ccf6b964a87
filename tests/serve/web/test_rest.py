"""inkling.v1 over HTTP: images in three forms, options, models, and the errors of the server as a Status."""

import base64
import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import Parse, ParseDict
from google.rpc.status_pb2 import Status

from serve.client.client import Client
from serve.images.pixels import to_png
from serve.pb import classifier_pb2 as pb
from tests.serve.web.conftest import Ask
from tests.serve.web.doors import Door, ask, find_free_port, open_door
from tests.support import LABELS, Png, RunningServer, draw_images

BANDS = "/v1/models/bands:classify"
FORM = (
    b'--edge\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n2\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
)


def test_an_image_as_the_body_gets_the_json_form_of_the_proto(get: Ask, png: Png, web_server: RunningServer) -> None:
    answer = get(BANDS, png(1), {"Content-Type": "image/png"})
    assert answer.code == 200
    reply = Parse(answer.body, pb.ClassifyResponse())
    with Client(web_server.address) as client:
        expected = client.classify(png(1), model="bands")
    assert [each.label for each in reply.classification.classes] == [each.label for each in expected.classes]
    assert [each.probability for each in reply.classification.classes] == pytest.approx(
        [each.probability for each in expected.classes]
    )
    assert (reply.model, reply.version) == ("bands", "2")


def test_zeros_are_in_the_answer_too(get: Ask, png: Png) -> None:
    classes = get(BANDS, png(0)).json["classification"]["classes"]
    assert classes[0]["label"] == "top"
    assert classes[0]["index"] == 0


def test_a_form_with_a_file_and_a_field_gets_an_answer(get: Ask, png: Png) -> None:
    body = FORM + png(2) + b"\r\n--edge--\r\n"
    answer = get(BANDS, body, {"Content-Type": "multipart/form-data; boundary=edge"})
    assert answer.code == 200
    assert [each["label"] for each in answer.json["classification"]["classes"]] == ["bottom", "top"]


def test_json_with_base64_and_options_gets_an_answer(get: Ask, png: Png) -> None:
    content = {"image": base64.b64encode(png(2)).decode(), "version": "1", "options": {"languageCode": "ru", "topK": 1}}
    answer = get(BANDS, json.dumps(content).encode(), {"Content-Type": "application/json"})
    assert answer.code == 200
    assert [each["label"] for each in answer.json["classification"]["classes"]] == [LABELS["ru"][2]]
    assert answer.json["version"] == "1"


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("more", [0, 1, 2])
def test_base64_of_both_alphabets_is_read_with_and_without_padding(
    get: Ask, png: Png, encode: Callable[[bytes], bytes], is_padded: bool, more: int
) -> None:
    """Bytes after the end of a PNG do not matter; those here take both letters in which the alphabets differ."""
    image = png(2)
    text = encode(image + bytes(-len(image) % 3) + b"\xfb\xef\xff" + bytes(more)).decode()
    assert set("+/" if encode is base64.b64encode else "-_") <= set(text)
    body = json.dumps({"image": text if is_padded else text.rstrip("=")}).encode()
    answer = get(BANDS, body, {"Content-Type": "application/json"})
    assert answer.code == 200
    assert answer.json["classification"]["classes"][0]["label"] == "bottom"


def test_the_image_is_the_only_field_of_bytes_in_a_request() -> None:
    """Its Base64 is checked by its name."""

    def find(message: Descriptor) -> list[str]:
        below = [name for field in message.fields if field.message_type for name in find(field.message_type)]
        return [field.name for field in message.fields if field.type == field.TYPE_BYTES] + below

    assert find(pb.ClassifyRequest.DESCRIPTOR) == ["image"]


def test_options_in_the_query_have_an_effect(get: Ask, png: Png) -> None:
    answer = get(f"{BANDS}?top_k=2&language=ru&version=1&return_prepared=true", png(2)).json
    assert [each["label"] for each in answer["classification"]["classes"]] == [LABELS["ru"][2], LABELS["ru"][0]]
    assert answer["version"] == "1"
    assert base64.b64decode(answer["classification"]["preparedPng"]).startswith(b"\x89PNG")


def test_a_compressed_body_gets_an_answer(get: Ask, png: Png) -> None:
    answer = get(BANDS, gzip.compress(png(2)), {"Content-Encoding": "gzip"})
    assert answer.code == 200
    assert answer.json["classification"]["classes"][0]["label"] == "bottom"


@pytest.mark.parametrize("count", [2, 3, 16])
def test_every_member_of_a_body_in_gzip_is_read(get: Ask, png: Png, count: int) -> None:
    image, last = png(2), count - 1
    body = b"".join(gzip.compress(image[at : at + 1]) for at in range(last)) + gzip.compress(image[last:])
    answer = get(BANDS, body, {"Content-Encoding": "gzip"})
    assert answer.code == 200
    assert answer.json["classification"]["classes"][0]["label"] == "bottom"


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_sends_a_file_as_a_form_and_as_a_body(door: Door, png: Png, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(png(2))
    for flags in (["-F", f"image=@{file}"], ["--data-binary", f"@{file}"]):
        done = subprocess.run(["curl", "-sS", *flags, door.url + BANDS], capture_output=True, check=True)
        assert json.loads(done.stdout)["classification"]["classes"][0]["label"] == "bottom"


def test_models_are_listed_and_described(get: Ask) -> None:
    listed = ParseDict(get("/v1/models").json, pb.ListModelsResponse())
    assert [(each.name, each.version) for each in listed.models] == [
        ("bands", "2"),
        ("bands", "1"),
        ("grey-bands", "1"),
    ]
    described = ParseDict(get("/v1/models/bands?version=1").json, pb.GetModelResponse())
    assert (described.model.version, list(described.model.input_shape)) == ("1", [12, 12, 3])


@pytest.mark.parametrize(
    ("path", "code", "reason", "sentence"),
    [
        ("/v1/models/nobody:classify", 404, "MODEL_NOT_FOUND", "wanted one of the models bands, grey-bands"),
        (f"{BANDS}?version=9", 404, "MODEL_NOT_FOUND", "wanted one of the versions"),
        (f"{BANDS}?language=fr", 400, "OPTION_INVALID", "wanted one of en, ru; got 'fr'"),
        (f"{BANDS}?top_k=-1", 400, "OPTION_INVALID", "top_k: wanted 0"),
        (f"{BANDS}?top_k=many", 400, "OPTION_INVALID", "top_k: wanted a whole number, got 'many'"),
        (f"{BANDS}?topk=3", 400, "OPTION_INVALID", "got 'topk'"),
    ],
)
def test_what_the_server_refuses_is_a_status_with_its_http_code(
    get: Ask, path: str, code: int, reason: str, sentence: str
) -> None:
    answer = get(path, to_png(draw_images(1)[0]))
    assert (answer.code, answer.reason) == (code, reason)
    assert sentence in answer.json["message"]
    ParseDict(answer.json, Status())


def test_a_request_id_is_handed_on_and_given_back(get: Ask, png: Png) -> None:
    assert get(BANDS, png(), {"X-Request-Id": "order-7"}).headers["x-request-id"] == "order-7"
    assert "x-request-id" not in get(BANDS, png()).headers


def test_an_unknown_path_and_a_wrong_method_are_statuses(get: Ask) -> None:
    assert (get("/v1/nothing").code, get("/v1/nothing").reason) == (404, "PATH_UNKNOWN")
    answer = get("/v1/models", b"")
    assert (answer.code, answer.reason) == (405, "METHOD_UNKNOWN")
    assert "GET" in answer.headers["allow"]


def test_a_server_that_is_not_there_is_a_503_that_names_no_address(png: Png) -> None:
    port = find_free_port()
    with open_door(f"127.0.0.1:{port}") as door:
        answer = ask(door.url, BANDS, png())
    assert (answer.code, answer.reason) == (503, "NO_SERVER")
    assert answer.headers["retry-after"] == "1"
    assert str(port) not in answer.body.decode()


def test_a_message_over_the_servers_limit_is_a_413_in_our_words(
    start_server: Callable[..., RunningServer], repository_folder: Path
) -> None:
    server = start_server(repository_folder, max_message_bytes=65536)
    with open_door(server.address) as door:
        answer = ask(door.url, BANDS, bytes(100_000))
    assert (answer.code, answer.reason) == (413, "MESSAGE_TOO_LARGE")
    assert answer.json["message"] == "wanted a smaller message than the server or this process takes, got a larger one"


def test_a_server_without_the_method_is_a_501_in_our_words() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with open_door(f"127.0.0.1:{port}") as door:
            answer = ask(door.url, "/v1/models")
    finally:
        server.stop(None)
    assert (answer.code, answer.reason) == (501, "GRPC")
    assert answer.json["message"] == "the server ended the call with UNIMPLEMENTED"
