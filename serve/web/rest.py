"""inkling.v1 over HTTP: an image in, the JSON form of the .proto out.

Enters: requests. Leaves: JSON, or an HttpError. Does not know: models, sockets, who may call.
An image is the body, the file of a form, or Base64 in JSON. Options are in the query, in the form, or in the JSON.
"""

import base64
import json
from typing import Any

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.errors import quote
from serve.pb import classifier_pb2 as pb
from serve.web.failures import JsonResponse, invalid
from serve.web.requests.caller import REQUEST_ID, read_metadata, work_for_caller
from serve.web.requests.limits import Bodies
from serve.web.requests.multipart import read_form
from serve.web.requests.options import read_options
from serve.web.upstream import Upstream

JSON, FORM = "application/json", "multipart/form-data"
PARSED = (JSON, FORM)
"""Kinds of bodies that are parsed. Every other kind is an image as it is."""
DEEPEST_JSON = 8
"""Levels of a request as JSON."""
IMAGE = "image"
"""The only field of bytes in a request."""


class Rest:
    """The routes of inkling.v1."""

    def __init__(self, upstream: Upstream, bodies: Bodies) -> None:
        self._upstream = upstream
        self._bodies = bodies

    @property
    def routes(self) -> list[Route]:
        """Every path with its handler."""
        return [
            Route("/v1/models", self.list_models, methods=["GET"]),
            Route("/v1/models/{model}:classify", self.classify, methods=["POST"]),
            Route("/v1/models/{model}", self.get_model, methods=["GET"]),
        ]

    async def list_models(self, request: Request) -> Response:
        """What is served, and what was refused."""
        refuse_parameters(request, ())
        return await self._answer(request, "ListModels", pb.ListModelsRequest())

    async def get_model(self, request: Request) -> Response:
        """One model."""
        refuse_parameters(request, ("version",))
        asked = pb.GetModelRequest(model=request.path_params["model"], version=request.query_params.get("version", ""))
        return await self._answer(request, "GetModel", asked)

    async def classify(self, request: Request) -> Response:
        """One image."""
        metadata = read_metadata(request)
        async with self._bodies.read(request) as body:
            content_type, model = request.headers.get("content-type", ""), request.path_params["model"]
            size = len(body) if read_kind(content_type) in PARSED else 0
            asked = await self._bodies.parse(size, read_request, body, content_type, model)
            read_options(request.query_params.multi_items(), asked)
            if not asked.image:
                raise invalid("wanted the bytes of an image, got none", "IMAGE_EMPTY")
            reply = await work_for_caller(request, self._upstream.call("Classify", asked, metadata))
        return to_json(request, reply)

    async def _answer(self, request: Request, method: str, asked: Any) -> Response:
        return to_json(request, await self._upstream.call(method, asked, read_metadata(request)))


def read_kind(content_type: str) -> str:
    """The kind of a body, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def read_request(body: bytes, content_type: str, model: str) -> pb.ClassifyRequest:
    """A request of its body, which is JSON, a form, or else the image itself. Raises HttpError."""
    kind = read_kind(content_type)
    if kind == JSON:
        return _read_json(body, model)
    if kind != FORM:
        return pb.ClassifyRequest(model=model, image=body)
    form = read_form(body, content_type)
    asked = pb.ClassifyRequest(model=model, image=form.file)
    read_options(form.fields.items(), asked)
    return asked


def _read_json(body: bytes, model: str) -> pb.ClassifyRequest:
    try:
        given = json.loads(body.decode(), object_pairs_hook=_refuse_repeats)
        image = _take_image(given)
        asked = ParseDict(given, pb.ClassifyRequest(image=image), max_recursion_depth=DEEPEST_JSON)
    except UnicodeDecodeError:
        raise invalid("wanted JSON in UTF-8, got other bytes") from None
    except (ParseError, RecursionError, ValueError) as error:
        raise invalid(f"wanted a ClassifyRequest as JSON; {quote(str(error))}") from None
    if asked.model not in ("", model):
        raise invalid(f"wanted the model of the path, {quote(model)}, or none; got {quote(asked.model)}")
    asked.model = model
    return asked


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("wanted each name once in an object")
    return found


def _take_image(given: Any) -> bytes:
    """Remove the image from a request and decode it, for protobuf drops what is no Base64. Raises HttpError.

    As in the JSON form of protobuf, Base64 has the standard or the URL alphabet, and padding may be left out.
    """
    if not isinstance(given, dict) or not isinstance(given.get(IMAGE), str):
        return b""  # protobuf refuses it, if it is anything
    text: str = given.pop(IMAGE)
    padding = "" if text.endswith("=") else "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + padding, validate=True)
    except ValueError:
        raise invalid(f"{IMAGE}: wanted Base64, got {quote(text)}") from None


def refuse_parameters(request: Request, known: tuple[str, ...]) -> None:
    """Raise HttpError for a parameter of the query that the path does not take."""
    for name in request.query_params:
        if name not in known:
            raise invalid(f"wanted no parameter {quote(name)} here", "OPTION_INVALID")


def to_json(request: Request, reply: Any) -> Response:
    """A message as JSON, zeros included, with the request id that its caller sent."""
    text = MessageToJson(reply, always_print_fields_with_no_presence=True, indent=None, ensure_ascii=False)
    request_id = request.headers.get(REQUEST_ID)
    return JsonResponse(text, headers={REQUEST_ID: request_id} if request_id else None)
