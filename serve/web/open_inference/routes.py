"""The paths of the Open Inference Protocol over REST, and what Triton adds to them.

Enters: requests. Leaves: JSON, or JSON and tensors as bytes, or an HttpError. Does not know: what a tensor holds, which
models there are.
"""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.pb import open_inference_pb2 as pb
from serve.web.failures import JsonResponse
from serve.web.open_inference.plain import read_json, to_plain
from serve.web.open_inference.requests import read_length, read_request, take
from serve.web.open_inference.responses import HEADER, write_response
from serve.web.requests.caller import read_metadata, work_for_caller
from serve.web.requests.limits import Bodies
from serve.web.upstream import Upstream

MODEL = "/v2/models/{model}"
VERSION = MODEL + "/versions/{version}"
EXTENSIONS = ("binary_tensor_data",)
"""What this side of the server adds to the protocol."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OpenInference:
    """The routes of the protocol."""

    def __init__(self, upstream: Upstream, bodies: Bodies) -> None:
        self._upstream = upstream
        self._bodies = bodies

    @property
    def routes(self) -> list[Route]:
        """Every path with its handler."""
        one_model: dict[str, Handler] = {
            "": self.describe_model,
            "/ready": self.tell_model_ready,
            "/config": self.tell_config,
            "/stats": self.tell_statistics,
        }
        return [
            _get("/v2", self.describe_server),
            _get("/v2/health/live", self.tell_live),
            _get("/v2/health/ready", self.tell_ready),
            _get("/v2/models/stats", self.tell_statistics),
            *(_get(path + tail, handler) for path in (MODEL, VERSION) for tail, handler in one_model.items()),
            *(_post(path + "/infer", self.infer) for path in (MODEL, VERSION)),
            _post("/v2/repository/index", self.list_repository),
            _post("/v2/repository/models/{model}/load", self.load),
            _post("/v2/repository/models/{model}/unload", self.unload),
        ]

    async def tell_live(self, request: Request) -> Response:
        """200 while this process runs."""
        return JsonResponse({"live": True})

    async def tell_ready(self, request: Request) -> Response:
        """200 if the server takes requests, else 503."""
        return _tell_ready(await self._upstream.is_serving())

    async def tell_model_ready(self, request: Request) -> Response:
        """200 if a model takes requests, else 503."""
        reply = await self._call(request, "ModelReady", pb.ModelReadyRequest(**_read_names(request)))
        return _tell_ready(reply.ready)

    async def describe_server(self, request: Request) -> Response:
        """The server's name, its version, and what it adds to the protocol."""
        reply = await self._call(request, "ServerMetadata", pb.ServerMetadataRequest())
        reply.extensions.extend(EXTENSIONS)
        return JsonResponse(to_plain(reply))

    async def describe_model(self, request: Request) -> Response:
        """The tensors of a model."""
        return await self._tell(request, "ModelMetadata", pb.ModelMetadataRequest(**_read_names(request)))

    async def tell_config(self, request: Request) -> Response:
        """A model's configuration."""
        reply = await self._call(request, "ModelConfig", pb.ModelConfigRequest(**_read_names(request)))
        return JsonResponse(to_plain(reply.config))

    async def tell_statistics(self, request: Request) -> Response:
        """What one model did, or all of them."""
        return await self._tell(request, "ModelStatistics", pb.ModelStatisticsRequest(**_read_names(request)))

    async def list_repository(self, request: Request) -> Response:
        """What is served, and what was refused."""
        async with self._bodies.read(request) as body:
            given = await self._bodies.parse(len(body), read_json, body) if body else {}
            only_ready = given.get("ready") is True
        reply = await self._call(request, "RepositoryIndex", pb.RepositoryIndexRequest(ready=only_ready))
        return JsonResponse([to_plain(model) for model in reply.models])

    async def load(self, request: Request) -> Response:
        """Load a model, if the server does that."""
        return await self._change(request, "RepositoryModelLoad", pb.RepositoryModelLoadRequest())

    async def unload(self, request: Request) -> Response:
        """Unload a model, if the server does that."""
        return await self._change(request, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest())

    async def infer(self, request: Request) -> Response:
        """Classify the images of a request."""
        metadata = read_metadata(request)
        async with self._bodies.read(request) as body:
            length = read_length(request.headers.get(HEADER), len(body))
            asked, wanted = await self._bodies.parse(length, read_request, body, length)
            names = _read_names(request)
            asked.model_name, asked.model_version = names["name"], names.get("version", "")
            reply = await work_for_caller(request, self._upstream.call("ModelInfer", asked, metadata))
        return write_response(reply, wanted)

    async def _change(self, request: Request, method: str, asked: Any) -> Response:
        async with self._bodies.read(request) as body:
            given = await self._bodies.parse(len(body), read_json, body) if body else {}
        asked.model_name = request.path_params["model"]
        for name in take(given, "parameters", dict, {}):
            asked.parameters[name].SetInParent()  # the server knows which it takes
        await self._call(request, method, asked)
        return JsonResponse({})

    async def _tell(self, request: Request, method: str, asked: Any) -> Response:
        return JsonResponse(to_plain(await self._call(request, method, asked)))

    async def _call(self, request: Request, method: str, asked: Any) -> Any:
        reply: Message = await self._upstream.call(method, asked, read_metadata(request))
        return reply


def _tell_ready(is_ready: bool) -> Response:
    return JsonResponse({"ready": is_ready}, HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _read_names(request: Request) -> dict[str, str]:
    names = {"model": "name", "version": "version"}
    return {names[key]: value for key, value in request.path_params.items()}


def _get(path: str, handler: Handler) -> Route:
    return Route(path, handler, methods=["GET"])


def _post(path: str, handler: Handler) -> Route:
    return Route(path, handler, methods=["POST"])
