"""The paths of the Open Inference Protocol, described in OpenAPI 3.1.

Enters: nothing. Leaves: paths and schemas. Does not know: how requests are answered.
"""

from typing import Any

from serve.web.openapi.schemas import Schema, refer

_TENSOR: Schema = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "enum": ["UINT8", "BYTES", "FP32"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "parameters": {"type": "object"},
        "data": {"type": "array", "description": "Numbers, or texts; an element of BYTES in a request is Base64."},
    },
}
SCHEMAS: dict[str, Schema] = {
    "Tensor": _TENSOR,
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": refer("Tensor")},
            "outputs": {"type": "array", "items": {"type": "object"}},
        },
    },
    "InferResponse": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "outputs": {"type": "array", "items": refer("Tensor")},
        },
    },
    "InferError": {"type": "object", "properties": {"error": {"type": "string"}}},
}
_OF_MODEL = {
    "": ("modelMetadata", "Describe the tensors of a model", "get"),
    "/ready": ("modelReady", "Tell whether a model is ready", "get"),
    "/config": ("modelConfig", "Describe a model as Triton does", "get"),
    "/stats": ("modelStatistics", "Count what a model did", "get"),
    "/infer": ("infer", "Classify the images of a request", "post"),
}
_OTHERS = {
    "/v2": ("serverMetadata", "Describe the server", "get"),
    "/v2/health/live": ("live", "Tell whether the door runs", "get"),
    "/v2/health/ready": ("ready", "Tell whether the server is ready", "get"),
    "/v2/models/stats": ("statistics", "Count what all models did", "get"),
    "/v2/repository/index": ("repositoryIndex", "List the models and the refused files", "post"),
    "/v2/repository/models/{model}/load": ("load", "Load a model", "post"),
    "/v2/repository/models/{model}/unload": ("unload", "Unload a model", "post"),
}
_BINARY: dict[str, Any] = {"application/octet-stream": {}}


def describe_paths() -> dict[str, Any]:
    """Every path of the protocol."""
    paths = {path: _describe(path, *facts) for path, facts in _OTHERS.items()}
    for tail, (name, summary, method) in _OF_MODEL.items():
        for root, suffix in (("/v2/models/{model}", ""), ("/v2/models/{model}/versions/{version}", "OfVersion")):
            paths[root + tail] = _describe(root + tail, name + suffix, summary, method)
    return paths


def _describe(path: str, name: str, summary: str, method: str) -> dict[str, Any]:
    is_infer = path.endswith("/infer")
    good: dict[str, Any] = {"application/json": {"schema": refer("InferResponse") if is_infer else {}}}
    bad = {"application/json": {"schema": refer("InferError")}}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["Open Inference Protocol"],
        "responses": {
            "200": {"description": "The answer.", "content": {**good, **(_BINARY if is_infer else {})}},
            "default": {"description": "What was wrong.", "content": bad},
        },
    }
    if is_infer:
        bodies = {"application/json": {"schema": refer("InferRequest")}, **_BINARY}
        operation["requestBody"] = {"required": True, "content": bodies}
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    parameters = [{"name": each, "in": "path", "required": True, "schema": {"type": "string"}} for each in names]
    return {"parameters": parameters, method: operation} if parameters else {method: operation}
