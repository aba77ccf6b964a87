"""The API of proto/inkling/v1: messages <-> values.

Enters: request messages. Leaves: response messages, or an exception that `status.py` turns into a status.
Does not know: how a model answers, status codes, processes, signals.
"""

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serve import errors
from serve.api.status import Context, answers_errors, to_status
from serve.errors import list_some, quote
from serve.images.pixels import to_png
from serve.inference.registry import Repository
from serve.inference.runner import Answer, Classifier
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceServicer

DEFAULT_TOP_K = 5
DEFAULT_LANGUAGE = "en"
LONGEST_TAG = 100
"""Of a language: it is shortened subtag by subtag, which for megabytes of them would take hours."""


class ClassifierService(ClassifierServiceServicer):
    """Answers with the models of a repository."""

    def __init__(self, repository: Repository, max_request_images: int) -> None:
        self._repository = repository
        self._max_request_images = max_request_images
        self.call_count = 0
        """Calls that have come, refused ones too."""
        self.is_draining = False
        """Whether every new call is answered with Draining."""

    def begin_call(self, request: Message | errors.UnreadableRequest) -> None:
        """Count a call to any method. Raises Draining and UnreadableRequest."""
        self.call_count += 1
        if self.is_draining:
            raise errors.Draining("the server is stopping and takes no new work")
        if isinstance(request, errors.UnreadableRequest):
            raise request

    @answers_errors
    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """One image."""
        start_ns = time.perf_counter_ns()
        classifier = self._repository.find(request.model, request.version)
        labels = find_labels(classifier.spec.labels, request.options)
        (outcome,) = await classifier.classify((request.image,), _deadline_s(context))
        if isinstance(outcome, Exception):
            raise outcome
        reply = pb.ClassifyResponse(
            model=classifier.name, version=str(classifier.version), precision=classifier.spec.precision
        )
        fill(reply.classification, outcome, labels, request.options, start_ns)
        return reply

    @answers_errors
    async def BatchClassify(self, request: pb.BatchClassifyRequest, context: Context) -> pb.BatchClassifyResponse:
        """Many images, each with its own outcome."""
        start_ns = time.perf_counter_ns()
        classifier = self._repository.find(request.model, request.version)
        labels = find_labels(classifier.spec.labels, request.options)
        if not 0 < len(request.images) <= self._max_request_images:
            raise errors.OptionError(f"wanted 1 to {self._max_request_images} images, got {len(request.images)}")
        outcomes = await classifier.classify(list(request.images), _deadline_s(context))  # each read of it is a copy
        reply = pb.BatchClassifyResponse(
            model=classifier.name, version=str(classifier.version), precision=classifier.spec.precision
        )
        for outcome in outcomes:
            result = reply.results.add()
            if isinstance(outcome, Exception):
                result.error.CopyFrom(to_status(outcome))
            else:
                fill(result.classification, outcome, labels, request.options, start_ns)
            if request.options.return_prepared:
                # A picture takes 0.1 to 5 ms to write. One is no longer than a run that the loop makes itself, and 256
                # are a second; between two, others are answered. A thread would make them wait behind large images.
                await asyncio.sleep(0)
        return reply

    @answers_errors
    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Everything that is served, and everything that was refused."""
        return pb.ListModelsResponse(
            models=map(describe, self._repository.list()),
            refused_models=[
                pb.RefusedModel(name=refusal.file.name, version=str(refusal.file.version), reason=refusal.reason)
                for refusal in self._repository.refusals
            ],
        )

    @answers_errors
    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """One model."""
        return pb.GetModelResponse(model=describe(self._repository.find(request.model, request.version)))


def make_handlers(service: ClassifierService) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """The methods by name, as generated code makes them, but for bytes that are no request.

    Those reach their method as the error that they are: gRPC itself would show the caller an exception of ours.
    """
    methods = pb.DESCRIPTOR.services_by_name["ClassifierService"].methods
    return {
        method.name: grpc.unary_unary_rpc_method_handler(
            getattr(service, method.name),
            functools.partial(_read_request, GetMessageClass(method.input_type)),
            GetMessageClass(method.output_type).SerializeToString,
        )
        for method in methods
    }


def _read_request(kind: type[Message], data: bytes) -> Message | errors.UnreadableRequest:
    try:
        return kind.FromString(data)
    except DecodeError:
        return errors.UnreadableRequest(
            f"wanted the message {kind.DESCRIPTOR.full_name}, got {len(data)} bytes that are none"
        )


def find_labels(labels: Mapping[str, tuple[str, ...]], options: pb.ClassifyOptions) -> tuple[str, ...]:
    """The labels in the language asked for, by the lookup of RFC 4647: "ru-RU" and "RU" find "ru".

    Raises OptionError for an unknown language, with the known ones, and for a negative top_k.
    """
    if options.top_k < 0:
        raise errors.OptionError(f"top_k: wanted 0 (the first {DEFAULT_TOP_K}) or more, got {options.top_k}")
    tag = options.language_code[:LONGEST_TAG].lower()
    if not tag:
        return labels.get(DEFAULT_LANGUAGE) or next(iter(labels.values()))
    known = {code.lower(): texts for code, texts in labels.items()}
    while tag:
        if tag in known:
            return known[tag]
        tag = tag.rpartition("-")[0]
    raise errors.OptionError(f"language_code: wanted one of {list_some(labels)}; got {quote(options.language_code)}")


def fill(
    message: pb.Classification, answer: Answer, labels: tuple[str, ...], options: pb.ClassifyOptions, start_ns: int
) -> None:
    """Write an answer into its place in a reply: the first top_k classes with their labels, and the times.

    In place, because a message that is made first and put in later is copied.
    """
    add, probabilities = message.classes.add, answer.probabilities
    for index in answer.ranking[: options.top_k or DEFAULT_TOP_K]:
        found = add()  # and then its fields: with them as arguments it takes a quarter longer
        found.label, found.index, found.probability = labels[index], index, probabilities[index]
    if options.return_prepared:
        message.prepared_png = to_png(answer.image.pixels)
    timing = message.timing
    timing.queue_us = answer.queue_us
    timing.decode_us = answer.image.decode_us
    timing.prepare_us = answer.image.prepare_us
    timing.inference_us = answer.inference_us
    timing.batch_size = answer.batch_size
    timing.total_us = (time.perf_counter_ns() - start_ns) // 1000


def describe(classifier: Classifier) -> pb.Model:
    """What a model's file says about itself, and where it runs."""
    spec = classifier.spec
    model = pb.Model(
        name=classifier.name,
        version=str(classifier.version),
        dataset=spec.dataset,
        label_sets=[pb.LabelSet(language_code=code, labels=labels) for code, labels in spec.labels.items()],
        input_shape=spec.input.shape,
        input_colour=spec.input.colour,
        prepare_policy=f"{spec.prepare.policy}/{spec.prepare.version}",
        precision=spec.precision,
        device=classifier.device,
        test_accuracy=spec.test_accuracy,
        test_count=spec.test_count,
        parameter_count=spec.parameters,
        source_commit=spec.source_commit,
        library_versions=spec.versions,
    )
    model.create_time.FromDatetime(spec.created)
    model.recipe.update(spec.recipe)
    return model


def _deadline_s(context: Context) -> float | None:
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s
