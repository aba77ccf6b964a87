"""The Open Inference Protocol, version 2, as in proto/open_inference: messages <-> values.

Enters: request messages. Leaves: response messages, or an exception that the gate turns into a status.
Does not know: how a model answers, status codes, processes, who loads models.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from serve.api.gate import CallGate
from serve.api.open_inference.control import ModelControl
from serve.api.open_inference.models import READY, to_config, to_index, to_metadata, to_statistics
from serve.api.open_inference.parameters import check_repository, read_deadline_s
from serve.api.open_inference.tensors import read_images, read_outputs, write_outputs
from serve.api.options import find_labels
from serve.api.status import to_status
from serve.api.streams import Requests, answer_in_order
from serve.api.wire import Handler
from serve.errors import NotFound, OptionError, quote
from serve.inference.registry import Registry
from serve.inference.runner import Runner
from serve.pb import classifier_pb2
from serve.pb import open_inference_pb2 as pb
from serve.telemetry.calls import Call
from serve.telemetry.model_statistics import ModelStatistics

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
EXTENSIONS = ("classification", "model_configuration", "model_repository", "parameters", "statistics")
"""Of the protocol, by the names that Triton gives them."""
STREAM_WINDOW = 64
"""Requests of one stream that may be under way, at least two full batches of most models. The rest stays unread."""
FINAL = "triton_final_response"
"""A parameter of a stream's responses that Triton's clients look for."""

_NO_OPTIONS = classifier_pb2.ClassifyOptions()

Statistics = Callable[[str, str], Awaitable[ModelStatistics]]
"""A model's name and version -> what it did, in all workers."""


class OpenInferenceService:
    """Answers with the models of a registry. Its methods have the names of the .proto."""

    def __init__(
        self,
        registry: Registry,
        max_request_images: int,
        *,
        statistics: Statistics,
        control: ModelControl,
    ) -> None:
        self._registry = registry
        self._max_request_images = max_request_images
        self._statistics = statistics
        self._control = control
        self.is_ready = True
        """Whether the probes say that requests are taken."""

    def handlers(self, gate: CallGate) -> dict[str, Handler]:
        """The gRPC handlers of all methods by name."""
        return {
            method.name: gate.stream(method, getattr(self, method.name))
            if method.client_streaming
            else gate.unary(method, getattr(self, method.name))
            for method in SERVICE.methods
        }

    async def ServerLive(self, request: pb.ServerLiveRequest, call: Call) -> pb.ServerLiveResponse:
        """Whether the server runs."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, call: Call) -> pb.ServerReadyResponse:
        """Whether the server takes requests."""
        return pb.ServerReadyResponse(ready=self.is_ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        """Whether a model takes requests."""
        try:
            self._registry.find(request.name, request.version)
        except NotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self.is_ready)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, call: Call) -> pb.ServerMetadataResponse:
        """The server's name and extensions."""
        return pb.ServerMetadataResponse(name="inkling", version=_VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
        """The tensors of a model."""
        runner = self._registry.find(request.name, request.version)
        listed = [runner] if request.version else self._find_all(runner.name, "")
        return to_metadata(runner, (each.version for each in listed))

    async def ModelConfig(self, request: pb.ModelConfigRequest, call: Call) -> pb.ModelConfigResponse:
        """A model's configuration."""
        runner = self._registry.find(request.name, request.version)
        return pb.ModelConfigResponse(config=to_config(runner, self._max_request_images))

    async def ModelInfer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """One request."""
        response = pb.ModelInferResponse()
        await self._infer(request, response, call)
        return response

    async def ModelStreamInfer(
        self, requests: Requests[pb.ModelInferRequest], call: Call
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """A stream of requests, each with its answer or its error."""

        async def answer(request: pb.ModelInferRequest, admitted: asyncio.Event) -> pb.ModelStreamInferResponse:
            reply = pb.ModelStreamInferResponse()
            try:
                await self._infer(request, reply.infer_response, call, admitted)
                reply.infer_response.parameters[FINAL].bool_param = True
            except Exception as error:  # as in the gate: whatever it is, it becomes a sentence
                reply.Clear()
                reply.error_message = to_status(error).message
                reply.infer_response.id = request.id
                error.__traceback__ = None
            return reply

        async for reply in answer_in_order(requests, answer, STREAM_WINDOW):
            yield reply

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, call: Call) -> pb.ModelStatisticsResponse:
        """What models did."""
        runners = self._find_all(request.name, request.version)
        found = await asyncio.gather(*(self._statistics(each.name, str(each.version)) for each in runners))
        return pb.ModelStatisticsResponse(model_stats=map(to_statistics, runners, found))

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, call: Call) -> pb.RepositoryIndexResponse:
        """What is served, what was refused and what was unloaded."""
        check_repository(request.repository_name)
        entries = to_index(self._registry.list(), self._registry.refusals, self._registry.unloaded)
        return pb.RepositoryIndexResponse(
            models=[entry for entry in entries if entry.state == READY or not request.ready]
        )

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, call: Call
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model, if the server does that."""
        check_repository(request.repository_name, request.parameters)
        await self._control.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, call: Call
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload a model, if the server does that."""
        check_repository(request.repository_name, request.parameters, ("unload_dependents",))
        await self._control.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def _infer(
        self,
        request: pb.ModelInferRequest,
        response: pb.ModelInferResponse,
        call: Call,
        admitted: asyncio.Event | None = None,
    ) -> None:
        """Fill a response in. With `admitted`, wait for room and say when there is some."""
        runner = self._registry.find(request.model_name, request.model_version)
        call.served_by = runner.identity
        labels = find_labels(runner.spec.labels, _NO_OPTIONS)
        outputs = read_outputs(request.outputs, runner.spec.familiarity is not None)
        deadline_s = read_deadline_s(request.parameters, call.deadline_s)
        images = read_images(request, runner.spec.input.shape, self._max_request_images)
        answers = await runner.classify_together(images, deadline_s, call.client, admitted)
        response.model_name, response.model_version, response.id = runner.name, str(runner.version), request.id
        write_outputs(response, answers, outputs, labels)

    def _find_all(self, name: str, version: str) -> list[Runner]:
        """The versions of a model that are meant; without a name, of all models. Raises NotFound."""
        if not name:
            if version:
                raise OptionError(f"wanted a model's name with the version {quote(version)}, got none")
            return self._registry.list()
        found = self._registry.find(name, version)
        return [found] if version else [each for each in self._registry.list() if each.name == name]


def _find_version() -> str:
    """The version of the installed distribution; of a mere folder of code there is none."""
    try:
        return version("inkling")
    except PackageNotFoundError:
        return "unknown"


_VERSION = _find_version()
