"""Requests that are wrong in whatever way: each gets a 4xx with a sentence, and the next caller an answer."""

import base64
import gzip
import zlib
from typing import NamedTuple

import pytest

from tests.serve.web.conftest import Ask
from tests.serve.web.doors import Door, send_raw
from tests.support import Png

PATH = "/v1/models/bands:classify"
INFER = "/v2/models/bands/infer"
JSON, FORM = "application/json", "multipart/form-data; boundary=edge"
HEADER = "Inference-Header-Content-Length"


class Case(NamedTuple):
    """A request, and what it gets."""

    name: str
    body: bytes
    headers: dict[str, str]
    code: int
    sentence: str
    path: str = PATH


CASES = [
    Case("no image", b"", {}, 400, "got none"),
    Case("no picture", b"hello", {}, 400, "PNG"),
    Case("JSON that ends", b'{"image": ', {"Content-Type": JSON}, 400, "as JSON"),
    Case("JSON that is a list", b"[1]", {"Content-Type": JSON}, 400, "as JSON"),
    Case("JSON that is deep", b"[" * 100_000, {"Content-Type": JSON}, 400, "as JSON"),
    Case("JSON in Latin-1", '{"image": "é"}'.encode("latin-1"), {"Content-Type": JSON}, 400, "UTF-8"),
    Case("JSON with another field", b'{"picture": ""}', {"Content-Type": JSON}, 400, "picture"),
    Case("JSON with no Base64", b'{"image": "***"}', {"Content-Type": JSON}, 400, "image: wanted Base64"),
    Case("JSON with half a surrogate", b'{"image": "\\ud800"}', {"Content-Type": JSON}, 400, "wanted Base64"),
    Case("JSON with a number as image", b'{"image": 7}', {"Content-Type": JSON}, 400, "as JSON"),
    Case("JSON with an image twice", b'{"image": "", "image": ""}', {"Content-Type": JSON}, 400, "each name once"),
    Case("JSON with another model", b'{"model": "other"}', {"Content-Type": JSON}, 400, "model of the path"),
    Case("a form without a boundary", b"--edge--", {"Content-Type": "multipart/form-data"}, 400, "boundary"),
    Case("a form that ends", b"--edge\r\nContent-Disposition: form", {"Content-Type": FORM}, 400, "ends too early"),
    Case("a form that is none", b"hello", {"Content-Type": FORM}, 400, "multipart/form-data"),
    Case(
        "a form without a file",
        b'--edge\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n2\r\n--edge--\r\n',
        {"Content-Type": FORM},
        400,
        "one file in the form",
    ),
    Case(
        "a form of many parts",
        b"--edge\r\nA: b\r\n\r\n\r\n" * 200 + b"--edge--\r\n",
        {"Content-Type": FORM},
        400,
        "at most 16 fields",
    ),
    Case("gzip that is none", b"hello", {"Content-Encoding": "gzip"}, 400, "wanted a body in gzip"),
    Case("gzip that ends", zlib.compress(b"a" * 999)[:-6], {"Content-Encoding": "deflate"}, 400, "ends too early"),
    Case("gzip and more", gzip.compress(b"a") + b"hello", {"Content-Encoding": "gzip"}, 400, "in gzip, got one that"),
    Case("a member that ends", gzip.compress(b"a") * 2 + b"\x1f\x8b", {"Content-Encoding": "gzip"}, 400, "too early"),
    Case(
        "members without end", gzip.compress(b"") * 10**4, {"Content-Encoding": "gzip"}, 400, "after stream 16 of gzip"
    ),
    Case("a bomb of members", gzip.compress(bytes(10**5)) * 4, {"Content-Encoding": "gzip"}, 413, "at most 300,000"),
    Case(
        "deflate and more",
        zlib.compress(b"a") + b"hello",
        {"Content-Encoding": "deflate"},
        400,
        "deflate in the body, got 5",
    ),
    Case("an unknown encoding", b"hello", {"Content-Encoding": "br"}, 415, "gzip or deflate"),
    Case("a compressed bomb", zlib.compress(bytes(10**7)), {"Content-Encoding": "deflate"}, 413, "at most 300,000"),
    Case("too many bytes", bytes(300_001), {}, 413, "at most 300,000 bytes, got 300,001"),
    Case("a header in UTF-8", b"x", {"X-Request-Id": "ü".encode().decode("latin-1")}, 400, "printable ASCII"),
    Case("no JSON to infer", b"hello", {}, 400, "JSON object", INFER),
    Case("a list to infer", b"[]", {}, 400, "got list", INFER),
    Case("inputs that are none", b'{"inputs": 1}', {}, 400, "inputs: wanted a list", INFER),
    Case("a header that is too long", b"{}", {HEADER: "99"}, 400, "from 0 to 2", INFER),
    Case("a header that is no number", b"{}", {HEADER: "-1"}, 400, "from 0 to 2", INFER),
    Case("bytes after the tensors", b"{}rest", {HEADER: "2"}, 400, "no bytes after", INFER),
]


def test_there_are_twenty_cases_and_more() -> None:
    assert len({case.name for case in CASES}) >= 20


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_malformed_request_gets_a_sentence_and_the_next_an_answer(get: Ask, png: Png, case: Case) -> None:
    answer = get(case.path, case.body, case.headers)
    assert answer.code == case.code
    told = answer.json
    assert case.sentence in (told["error"] if case.path == INFER else told["message"])
    assert get(PATH, png(1)).json["classification"]["classes"][0]["label"] == "middle"


def nest(levels: int) -> object:
    data: object = 0
    for _ in range(levels):
        data = [data]
    return data


def describe(**changes: object) -> bytes:
    import json

    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 12, 12, 3], "data": [0] * 432, **changes}
    return json.dumps({"inputs": [{name: value for name, value in tensor.items() if value is not None}]}).encode()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (describe(data=[256] * 432), "from 0 to 255"),
        (describe(data=[0.5] * 432), "whole numbers"),
        (describe(data=[True] * 432), "whole numbers"),
        (describe(data=[[1, 2], [3]]), "the same length"),
        (describe(data=["x"] * 432), "whole numbers"),
        (describe(data=["x" * 50_000, *[""] * 50_000]), "whole numbers"),  # would be 10 GB as an array of texts
        (describe(data=[2**70] * 432), "from 0 to 255"),
        (describe(data=[]), "whole numbers"),
        (describe(data=[[1], [[2], [3]]]), "the same length"),
        (describe(data=[[[1, 2], [3, 4]], [1, 2]]), "the same length"),
        (describe(data=nest(32)), "wanted 432 bytes"),
        *((describe(data=nest(levels)), "at most 32 levels deep") for levels in (33, 64, 65, 200)),
        (describe(data=None), "got neither"),
        (describe(data=[0] * 431), "wanted 432 bytes"),
        (describe(shape=[-1]), "a shape of whole numbers"),
        (describe(shape=["1"]), "a shape of whole numbers"),
        (describe(datatype="FP32"), "UINT8 or BYTES"),
        (describe(datatype="BYTES", shape=[1], data=["é"]), "in Base64"),
        (describe(datatype="BYTES", shape=[1], data=[7]), "texts in Base64"),
        (describe(parameters={"binary_data_size": 432}, data=None), "wanted '432' bytes after the JSON, got 0"),
        (describe(parameters={"a": [1]}), "a number, a text or a truth value"),
        (describe(parameters={"a": 2**70}), "64 bits"),
        (describe(name="pictures"), "wanted the one input images"),
        (b'{"inputs": [], "parameters": {"sequence_id": 1}}', "no sequence"),
        (b'{"inputs": [{"name": "\\ud800"}]}', ""),
        (b'{"id": "\xed\xa0\x80"}', "JSON in UTF-8"),
        ('{"id": "a"}'.encode("utf-16"), "JSON in UTF-8"),
        ('{"id": "\ud800"}'.encode("utf-32", "surrogatepass"), "JSON in UTF-8"),
    ],
)
def test_a_malformed_tensor_gets_the_error_of_the_protocol(get: Ask, body: bytes, sentence: str) -> None:
    answer = get(INFER, body)
    assert answer.code == 400
    assert sentence in answer.json["error"]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) * 100,
    ],
    ids=["words", "negative", "two lengths", "chunk", "long line", "many headers", "no host", "binary"],
)
def test_what_is_no_http_is_refused_and_costs_nobody_else(door: Door, get: Ask, png: Png, data: bytes) -> None:
    received = send_raw(door.url, data, ends=True)
    assert not received or received.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert get(PATH, png(1)).code == 200
    assert door.process.poll() is None


def test_a_picture_may_have_a_name_with_half_a_character(get: Ask, png: Png) -> None:
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="\xed\xa0\x80.png"\r\n\r\n'
        + png(2)
        + b"\r\n--edge--\r\n"
    )
    assert get(PATH, body, {"Content-Type": FORM}).code == 200


@pytest.mark.parametrize(
    "wrap",
    ["data:image/png;base64,{}", "{}@@", "@@{}", " {}", "{}\\n", "{}é", "="],
    ids=["URL", "after", "before", "space", "line", "letter", "nothing"],
)
def test_an_image_beside_other_characters_is_no_base64(get: Ask, png: Png, wrap: str) -> None:
    text = base64.b64encode(png(1)).decode()
    answer = get(PATH, b'{"image": "%s"}' % wrap.format(text).encode(), {"Content-Type": JSON})
    assert (answer.code, answer.reason) == (400, "REQUEST_UNREADABLE")
    assert answer.json["message"].startswith("image: wanted Base64, got ")


def test_base64_of_nothing_is_no_image(get: Ask) -> None:
    assert base64.b64encode(b"") == b""
    answer = get(PATH, b'{"image": ""}', {"Content-Type": JSON})
    assert (answer.code, answer.reason) == (400, "IMAGE_EMPTY")


@pytest.mark.parametrize(("length", "code"), [(3000, 200), (3039, 200), (3040, 431), (4096, 431)])
@pytest.mark.parametrize("path", ["/v1/models/bands", "/v2/models/bands"])
def test_headers_that_are_too_large_together_get_a_431_that_names_them(
    get: Ask, path: str, length: int, code: int
) -> None:
    """Each is short enough. At 3,039 characters their names, values and entries have 7 KiB."""
    answer = get(path, headers={"X-Request-Id": "a" * 4000, "tracestate": "b" * length, "traceparent": ""})
    assert answer.code == code
    if code == 431:
        told = answer.json["error" if path.startswith("/v2") else "message"]
        assert (
            told == "wanted at most 7,168 bytes of the headers x-request-id, traceparent, tracestate together, got more"
        )


@pytest.mark.parametrize("parameters", [b"5", b"[1]", b"[[1]]", b'"abc"', b"true"])
def test_parameters_of_a_load_that_are_no_object_are_the_callers_fault(get: Ask, parameters: bytes) -> None:
    answer = get("/v2/repository/models/bands/load", b'{"parameters": ' + parameters + b"}")
    assert answer.code == 400
    assert "parameters: wanted an object" in answer.json["error"]
