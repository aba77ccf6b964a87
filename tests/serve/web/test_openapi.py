"""serve.web.openapi: a validator takes the document, and the door does what it says."""

import json
import re

import pytest

from serve.pb import classifier_pb2 as pb
from serve.web.openapi.document import make_document
from tests.serve.web.conftest import Ask
from tests.support import Png

validator = pytest.importorskip("openapi_spec_validator", reason="needs openapi-spec-validator")


def test_the_document_is_valid_openapi_3_1(get: Ask) -> None:
    document = get("/openapi.json").json
    assert document["openapi"].startswith("3.1.")
    validator.validate(document)


def test_the_document_has_every_option_and_every_field_of_the_proto() -> None:
    document = make_document()
    parameters = document["paths"]["/v1/models/{model}:classify"]["parameters"]
    named = {each["name"].replace("language", "language_code") for each in parameters}
    assert named >= {field.name for field in pb.ClassifyOptions.DESCRIPTOR.fields} | {"model", "version"}
    fields = document["components"]["schemas"]["Classification"]["properties"]
    assert fields.keys() == {field.json_name for field in pb.Classification.DESCRIPTOR.fields}


def test_every_path_of_the_document_is_there(get: Ask, png: Png) -> None:
    for path, item in make_document()["paths"].items():
        real = path.replace("{model}", "bands").replace("{version}", "1")
        for method in {"get", "post"} & item.keys():
            answer = get(real, None if method == "get" else png(), method=method.upper())
            assert answer.code in (200, 400), (path, answer.body)


def test_every_field_of_an_answer_is_in_the_document(get: Ask, png: Png) -> None:
    schemas = make_document()["components"]["schemas"]

    def check(value: object, schema: dict[str, object]) -> None:
        if "$ref" in schema:
            schema = schemas[str(schema["$ref"]).rpartition("/")[2]]
        if isinstance(value, dict) and "properties" in schema:
            for name, inner in value.items():
                if name in schema["properties"] or not schema.get("additionalProperties"):  # type: ignore[operator]
                    check(inner, schema["properties"][name])  # type: ignore[index]
        elif isinstance(value, list):
            for each in value:
                check(each, schema["items"])  # type: ignore[arg-type]

    check(get("/v1/models/bands:classify", png()).json, {"$ref": "/ClassifyResponse"})
    check(get("/v1/models").json, {"$ref": "/ListModelsResponse"})
    check(get("/v1/models/nobody").json, {"$ref": "/Status"})


def test_the_page_of_the_api_names_every_path_and_needs_nothing_from_elsewhere(get: Ask) -> None:
    page = get("/docs").body.decode()
    for path in make_document()["paths"]:
        assert f"{path}</code>" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!/)', page)
    assert json.loads(get("/openapi.json").body)["info"]["title"] in page
