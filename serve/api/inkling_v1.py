"""The API of proto/inkling/v1: messages <-> values.

Enters: request messages. Leaves: response messages, or an exception that the gate turns into a status.
Does not know: how a model answers, status codes, processes, signals.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from dataclasses import asdict
from typing import Any, TypeAlias, TypeVar

from google.protobuf.json_format import MessageToDict

from serve.api.gate import CallGate
from serve.api.options import DEFAULT_TOP_K, check_familiarity, find_labels
from serve.api.status import to_status
from serve.api.streams import Requests
from serve.api.wire import Handler
from serve.errors import InvalidMetadata, OptionError
from serve.images.pixels import to_png
from serve.inference.answer import Answer
from serve.inference.registry import Registry
from serve.inference.runner import Runner
from serve.pb import classifier_pb2 as pb
from serve.telemetry.calls import Call
from serve.telemetry.logs import one_line

SERVICE = pb.DESCRIPTOR.services_by_name["ClassifierService"]
LEAST_WINDOW = 64
"""Requests of a stream that may always be under way; twice the largest batch, if more, as calls of a connection."""
MAX_DESCRIPTION_BYTES = 2**20
"""Bytes that a model may add to the list of all. gRPC's clients take four times as much unless told otherwise."""

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Answering: TypeAlias = Callable[[Request, asyncio.Event], Coroutine[Any, Any, Reply]]


class ClassifierService:
    """Answers with the models of a registry. Its methods have the names of the .proto."""

    def __init__(self, registry: Registry, max_request_images: int) -> None:
        self._registry = registry
        self._max_request_images = max_request_images

    def handlers(self, gate: CallGate) -> dict[str, Handler]:
        """The gRPC handlers of all methods by name."""
        return {
            method.name: (gate.stream if method.client_streaming else gate.unary)(method, getattr(self, method.name))
            for method in SERVICE.methods
        }

    async def Classify(self, request: pb.ClassifyRequest, call: Call) -> pb.ClassifyResponse:
        """One image."""
        reply = pb.ClassifyResponse()
        await self._classify(request, reply, call)
        return reply

    async def BatchClassify(self, request: pb.BatchClassifyRequest, call: Call) -> pb.BatchClassifyResponse:
        """Many images, each with its own outcome."""
        start_ns = time.perf_counter_ns()
        runner = self._find(request.model, request.version, call)
        labels = find_labels(runner.spec.labels, request.options)
        check_familiarity(runner, request.options)
        if not 0 < len(request.images) <= self._max_request_images:
            raise OptionError(f"wanted 1 to {self._max_request_images} images, got {len(request.images)}")
        images = list(request.images)  # each read of it is a copy
        outcomes = await runner.classify(images, call.deadline_s, call.client, explains=request.options.return_steps)
        reply = pb.BatchClassifyResponse(
            model=runner.name, version=str(runner.version), precision=runner.spec.precision
        )
        for outcome in outcomes:
            result = reply.results.add()
            if isinstance(outcome, Exception):
                result.error.CopyFrom(to_status(outcome))
            else:
                fill(result.classification, outcome, labels, request.options, start_ns)
            if request.options.return_prepared or request.options.return_steps:
                # Writing 256 pictures may take a second; others are answered between two of them.
                await asyncio.sleep(0)
        return reply

    async def StreamClassify(
        self, requests: Requests[pb.StreamClassifyRequest], call: Call
    ) -> AsyncGenerator[pb.StreamClassifyResponse, None]:
        """A stream of images, each with its own outcome."""

        async def answer(request: pb.StreamClassifyRequest, admitted: asyncio.Event) -> pb.StreamClassifyResponse:
            reply = pb.StreamClassifyResponse(id=request.id)
            try:
                await self._classify(request, reply, call, admitted)
            except Exception as error:  # as in the gate: whatever it is, it becomes a status
                reply = pb.StreamClassifyResponse(id=request.id, error=to_status(error))
                error.__traceback__ = None
            finally:
                admitted.set()  # what has failed needs no room
            return reply

        window = max([LEAST_WINDOW, *(2 * runner.max_batch for runner in self._registry.list())])
        async with contextlib.aclosing(answer_when_ready(requests, answer, window)) as replies:
            async for reply in replies:
                yield reply

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        """Everything that is served, and everything that was refused."""
        return pb.ListModelsResponse(
            models=map(describe, self._registry.list()),
            refused_models=[
                pb.RefusedModel(
                    name=one_line(refusal.file.name), version=str(refusal.file.version), reason=refusal.reason
                )
                for refusal in self._registry.refusals
            ],
        )

    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        """One model."""
        return pb.GetModelResponse(model=describe(self._find(request.model, request.version, call)))

    async def _classify(
        self,
        request: pb.ClassifyRequest | pb.StreamClassifyRequest,
        reply: pb.ClassifyResponse | pb.StreamClassifyResponse,
        call: Call,
        admitted: asyncio.Event | None = None,
    ) -> None:
        """Fill a reply in. With `admitted`, wait for room and set the event when there is some."""
        start_ns = time.perf_counter_ns()
        runner = self._find(request.model, request.version, call)
        labels = find_labels(runner.spec.labels, request.options)
        check_familiarity(runner, request.options)
        (outcome,) = await runner.classify(
            (request.image,), call.deadline_s, call.client, admitted, explains=request.options.return_steps
        )
        if isinstance(outcome, Exception):
            raise outcome
        reply.model, reply.version, reply.precision = *runner.identity, runner.spec.precision
        fill(reply.classification, outcome, labels, request.options, start_ns)

    def _find(self, model: str, version: str, call: Call) -> Runner:
        """The model that a request names, which serves the call from now on. Raises NotFound."""
        runner = self._registry.find(model, version)
        call.served_by = runner.identity
        return runner


async def answer_when_ready(
    requests: AsyncIterable[Request], answer: Answering[Request, Reply], window: int
) -> AsyncGenerator[Reply, None]:
    """Answer up to `window` requests of a stream at a time, and yield each answer when it is ready.

    `answer` sets the event once it has room to work; no other request is read before. So a full queue and a consumer
    that takes no answers both end the reading. What ends the reading by failing is raised after the answers.
    """
    ready: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
    room = asyncio.Semaphore(window)

    def begin(answering: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(answering)
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        task.add_done_callback(ready.put_nowait)
        return task

    async def begin_each() -> None:
        async for request in requests:
            admitted = asyncio.Event()
            begin(answer(request, admitted))
            await admitted.wait()
            await room.acquire()

    under_way: set[asyncio.Task[Any]] = set()
    reading = begin(begin_each())
    try:
        while under_way or not ready.empty():
            task = await ready.get()
            if task is not reading:
                yield task.result()
                room.release()
        reading.result()
    finally:
        for task in under_way:
            task.cancel()
        if reading.done() and not reading.cancelled():
            reading.exception()  # marks it as retrieved: once the consumer has left, it is not worth a line in the log


def fill(
    message: pb.Classification, answer: Answer, labels: tuple[str, ...], options: pb.ClassifyOptions, start_ns: int
) -> None:
    """Write an answer into its place in a reply: the first top_k classes with their labels, and the times.

    It is written in place, for a message that is made first and put in later would be copied.
    """
    add, probabilities = message.classes.add, answer.probabilities
    for index in answer.ranking[: options.top_k or DEFAULT_TOP_K]:
        found = add()  # and then its fields, which is quicker than to pass them as arguments
        found.label, found.index, found.probability = labels[index], index, probabilities[index]
    if answer.familiarity is not None:
        message.familiarity = answer.familiarity
        message.unknown = answer.familiarity < options.min_familiarity
    if options.return_prepared:
        message.prepared_png = to_png(answer.image.pixels)
    if answer.image.notes:
        message.notes.extend(answer.image.notes)
    for step in answer.image.steps:
        message.steps.add(name=step.name, png=step.png)
    timing = message.timing
    timing.queue_us = answer.queue_us
    timing.decode_us = answer.image.decode_us
    timing.prepare_us = answer.image.prepare_us
    timing.inference_us = answer.inference_us
    timing.batch_size = answer.batch_size
    timing.total_us = (time.perf_counter_ns() - start_ns) // 1000


def describe(runner: Runner) -> pb.Model:
    """What a model's file says about itself, and where it runs."""
    spec = runner.spec
    model = pb.Model(
        name=runner.name,
        version=str(runner.version),
        dataset=spec.dataset,
        label_sets=[pb.LabelSet(language_code=code, labels=labels) for code, labels in spec.labels.items()],
        input_shape=spec.input.shape,
        input_colour=spec.input.colour,
        prepare_policy=f"{spec.prepare.policy}/{spec.prepare.version}",
        precision=spec.precision,
        device=runner.device,
        test_accuracy=spec.test_accuracy,
        test_count=spec.test_count,
        parameter_count=spec.parameters,
        source_commit=spec.source_commit,
        library_versions=spec.versions,
    )
    model.create_time.FromDatetime(spec.created)
    model.recipe.update(spec.recipe)
    if spec.familiarity is not None:
        model.familiarity.update(asdict(spec.familiarity))
    return model


def check_description(runner: Runner) -> None:
    """Raise whatever keeps a model from being listed: texts, numbers or depths that no message or JSON holds, or size.

    Raises InvalidMetadata if it is too large.
    """
    data = pb.ListModelsResponse(models=[describe(runner)]).SerializeToString()
    if len(data) > MAX_DESCRIPTION_BYTES:
        raise InvalidMetadata(f"wanted a description of at most {MAX_DESCRIPTION_BYTES:,} bytes, got {len(data):,}")
    MessageToDict(pb.ListModelsResponse.FromString(data))
