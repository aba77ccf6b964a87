"""Values <-> the messages of inkling.v1, for both clients.

Enters: a caller's values, or what a call gave back. Leaves: request messages; frozen dataclasses; CallError.
Does not know: channels, or whether a call blocks its thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.rpc import code_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from serve.errors import CallError
from serve.pb import classifier_pb2 as pb

GRPC_REASON = "GRPC"
"""Reason of a status that comes from gRPC itself and not from a server."""


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """One class: its label in the requested language, its index, its probability from 0 to 1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The server's time by stage, in microseconds. `batch_size` images shared the run."""

    queue_us: int
    decode_us: int
    prepare_us: int
    inference_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Step:
    """A picture on the way from the image to the network's input."""

    name: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image: the classes, most probable first, and the model that gave them."""

    model: str
    version: str
    precision: str
    classes: tuple[ClassProbability, ...]
    timing: Timing
    prepared_png: bytes
    """The prepared pixels as a PNG file if `return_prepared` was set, else empty."""
    notes: tuple[str, ...] = ()
    """What the model's policy saw, such as NO_INK."""
    steps: tuple[Step, ...] = ()
    """The pictures on the way if `return_steps` was set."""
    familiarity: float | None = None
    """The share of held-out images that look less typical, from 0 to 1. None if the model does not give it."""
    unknown: bool = False
    """Whether the familiarity is below `min_familiarity`: the image probably shows none of the classes."""

    @property
    def best(self) -> ClassProbability:
        """The most probable class."""
        return self.classes[0]


def make_request(
    image: bytes,
    *,
    model: str,
    version: str,
    top_k: int,
    language: str,
    return_prepared: bool,
    return_steps: bool = False,
    min_familiarity: float = 0,
) -> pb.ClassifyRequest:
    """The request for one image."""
    options = pb.ClassifyOptions(
        top_k=top_k,
        language_code=language,
        return_prepared=return_prepared,
        return_steps=return_steps,
        min_familiarity=min_familiarity,
    )
    return pb.ClassifyRequest(model=model, version=version, image=image, options=options)


def make_batch_request(
    images: Sequence[bytes], *, model: str, version: str, top_k: int, language: str, min_familiarity: float
) -> pb.BatchClassifyRequest:
    """The request for many images."""
    options = pb.ClassifyOptions(top_k=top_k, language_code=language, min_familiarity=min_familiarity)
    return pb.BatchClassifyRequest(model=model, version=version, images=images, options=options)


def make_stream_request(
    image: bytes, *, model: str, version: str, top_k: int, language: str
) -> pb.StreamClassifyRequest:
    """The request for one image of a stream, without an id."""
    options = pb.ClassifyOptions(top_k=top_k, language_code=language)
    return pb.StreamClassifyRequest(model=model, version=version, image=image, options=options)


def check_request_size(request: Any, max_bytes: int) -> None:
    """Raise CallError if a message is larger than the client sends."""
    if request.ByteSize() > max_bytes:
        raise CallError(
            "RESOURCE_EXHAUSTED",
            "MESSAGE_TOO_LARGE",
            f"wanted a message of at most {max_bytes:,} bytes, got {request.ByteSize():,}",
        )


def read_reply(reply: pb.ClassifyResponse) -> Classification:
    """The answer for one image."""
    return _to_classification(reply.classification, reply)


def read_batch_reply(reply: pb.BatchClassifyResponse) -> list[Classification | CallError]:
    """The answers for many images. An image that failed has a CallError in its place."""
    return [
        _to_error(result.error) if result.HasField("error") else _to_classification(result.classification, reply)
        for result in reply.results
    ]


def read_stream_reply(reply: pb.StreamClassifyResponse) -> Classification | CallError:
    """The outcome for one image of a stream."""
    return _to_error(reply.error) if reply.HasField("error") else _to_classification(reply.classification, reply)


def read_rpc_error(error: Any) -> CallError:
    """The google.rpc.Status in the trailers if the server sent one, else gRPC's own code and details."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return _to_error(Status.FromString(value))
    return CallError(error.code().name, GRPC_REASON, error.details() or "no details")


def no_server(timeout_s: float) -> CallError:
    """The error of a wait for a server that did not answer in time."""
    return CallError("UNAVAILABLE", "NO_SERVER", f"no server answered within {timeout_s:g} s")


def _to_error(status: Status) -> CallError:
    info = ErrorInfo()
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    return CallError(code_pb2.Code.Name(status.code), info.reason, status.message)


def _to_classification(
    message: pb.Classification, reply: pb.ClassifyResponse | pb.BatchClassifyResponse | pb.StreamClassifyResponse
) -> Classification:
    timing = message.timing
    return Classification(
        model=reply.model,
        version=reply.version,
        precision=reply.precision,
        classes=tuple(ClassProbability(each.label, each.index, each.probability) for each in message.classes),
        timing=Timing(
            queue_us=timing.queue_us,
            decode_us=timing.decode_us,
            prepare_us=timing.prepare_us,
            inference_us=timing.inference_us,
            total_us=timing.total_us,
            batch_size=timing.batch_size,
        ),
        prepared_png=message.prepared_png,
        notes=tuple(message.notes),
        steps=tuple(Step(step.name, step.png) for step in message.steps),
        familiarity=message.familiarity if message.HasField("familiarity") else None,
        unknown=message.unknown,
    )
