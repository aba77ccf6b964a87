"""The description of the door in OpenAPI 3.1.

Enters: nothing; schemas come from the descriptors of the .proto. Leaves: a document. Does not know: how requests are
answered.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from google.rpc.status_pb2 import Status

from serve.pb import classifier_pb2 as pb
from serve.web.openapi.inference import SCHEMAS, describe_paths
from serve.web.openapi.schemas import SCALARS, Schema, describe_messages, refer
from serve.web.requests.options import OPTION_FIELDS, SHORT_NAMES

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "application/octet-stream")
DESCRIPTIONS = {
    "top_k": "The number of labels, most probable first. 0 returns five.",
    "language": "The language of the labels, as a BCP 47 tag. Empty is English, or the model's first language.",
    "return_prepared": "Whether to return the image as the network received it, as a PNG in Base64.",
    "return_steps": "Whether to return the pictures on the way to the network's input, as PNGs in Base64.",
    "min_familiarity": "The least familiarity, from 0 to 1; an image with less is unknown. 0 is off.",
    "version": "The model's version. Empty is the highest that is served.",
}
"""Of parameters; one that is not here has the text of its name."""
ERRORS = {
    400: "The image or a parameter is not as it should be; the message says what was wanted and what came.",
    401: "There is no token, or none that the server knows.",
    404: "There is no such model or version.",
    408: "The body did not come in time.",
    413: "The body is larger than the server takes.",
    429: "The server is busy; Retry-After says when to try again.",
    431: "The headers that are handed on are too large together.",
    503: "No server answers, or it stops.",
    504: "The server did not answer in time.",
}


def make_document() -> dict[str, Any]:
    """The whole document."""
    messages = (pb.ClassifyRequest, pb.ClassifyResponse, pb.ListModelsResponse, pb.GetModelResponse, Status)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inkling",
            "version": _find_version(),
            "description": "Classify images over HTTP. Errors of /v1 are a google.rpc.Status as JSON.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "tags": [{"name": "Classifier"}, {"name": "Open Inference Protocol"}],
        "paths": {**_describe_paths(), **describe_paths()},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**describe_messages([message.DESCRIPTOR for message in messages]), **SCHEMAS},
            "responses": {f"Error{code}": _describe_error(text) for code, text in ERRORS.items()},
        },
    }


def _describe_paths() -> dict[str, Any]:
    return {
        "/v1/models": {"get": _operate("listModels", "List the models", "ListModelsResponse", (401, 431, 503))},
        "/v1/models/{model}": {
            "parameters": [_in_path("model"), _in_query("version", {"type": "string"})],
            "get": _operate("getModel", "Describe a model", "GetModelResponse", (401, 404, 431, 503)),
        },
        "/v1/models/{model}:classify": {
            "parameters": [_in_path("model"), _in_query("version", {"type": "string"}), *_describe_options()],
            "post": {
                **_operate("classify", "Classify an image", "ClassifyResponse", tuple(ERRORS)),
                "requestBody": {"required": True, "content": _describe_bodies()},
            },
        },
    }


def _describe_options() -> list[dict[str, Any]]:
    short = {field: name for name, field in SHORT_NAMES.items()}
    return [_in_query(short.get(name, name), SCALARS[field.cpp_type]) for name, field in OPTION_FIELDS.items()]


def _describe_bodies() -> dict[str, Any]:
    form = {"type": "object", "required": ["image"], "properties": {"image": {"contentMediaType": "image/*"}}}
    return {
        **{kind: {} for kind in IMAGE_TYPES},
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": refer("ClassifyRequest")},
    }


def _operate(name: str, summary: str, schema: str, errors: tuple[int, ...]) -> dict[str, Any]:
    good = {"description": "The answer.", "content": {"application/json": {"schema": refer(schema)}}}
    bad = {str(code): {"$ref": f"#/components/responses/Error{code}"} for code in errors}
    return {"operationId": name, "summary": summary, "tags": ["Classifier"], "responses": {"200": good, **bad}}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(name: str, schema: Schema) -> dict[str, Any]:
    description = DESCRIPTIONS.get(name, name.replace("_", " ").capitalize() + ".")
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _describe_error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": refer("Status")}}}


def _find_version() -> str:
    try:
        return version("inkling")
    except PackageNotFoundError:
        return "unknown"
