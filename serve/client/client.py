"""A typed client: image bytes -> labelled probabilities, from a running server.

Enters: the bytes of image files. Leaves: frozen dataclasses, or CallError with code, reason and message.
Needs only the base dependencies. Does not know: ONNX Runtime, files, how the server works.

    with Client("127.0.0.1:50051") as client:
        print(client.classify(Path("cat.png").read_bytes(), model="cifar10-cnn").best)
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from serve.client.channel import make_call_options, open_channel
from serve.client.endpoint import DEFAULT_ADDRESS, Endpoint, make_endpoint
from serve.client.handshake import explain_failure
from serve.client.messages import (
    GRPC_REASON,
    Classification,
    ClassProbability,
    Timing,
    check_request_size,
    make_batch_request,
    make_request,
    make_stream_request,
    no_server,
    read_batch_reply,
    read_reply,
    read_rpc_error,
)
from serve.client.streams.threads import stream_in_threads
from serve.client.streams.unanswered import Unanswered
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub

# The types of answers, too: users import them from here.
__all__ = ["ClassProbability", "Classification", "Client", "Timing", "open_client"]

DEFAULT_MAX_MESSAGE_BYTES = 16 * 2**20
NO_CONNECTION = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Codes of calls for which gRPC found no connection."""

Reply = TypeVar("Reply")


class Client:
    """Calls one server, from any number of threads. Every method raises CallError.

    A server spreads connections, not calls, over its worker processes. So a client that is to use several workers
    needs several `connections`. An address that names several servers, such as `dns:///inkling:50051`, spreads calls
    over those that serve.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = 30,
        connections: int = 1,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        token: str = "",
    ) -> None:
        """`tls_ca` or `tls_cert` turns TLS on; they and `tls_key` are PEM files, which are read now.

        Raises ConfigError if one of them, the address or the token cannot be used.
        """
        self._endpoint = make_endpoint(address, tls_ca, tls_cert, tls_key, token)
        self._has_answered = False
        self._max_message_bytes = max_message_bytes
        self._timeout_s = timeout_s
        options = make_call_options(self._endpoint, max_message_bytes)
        self._channels = [open_channel(self._endpoint, options) for _ in range(connections)]
        self._stubs = itertools.cycle([ClassifierServiceStub(channel) for channel in self._channels])

    def classify(
        self,
        image: bytes,
        *,
        model: str = "",
        version: str = "",
        top_k: int = 0,
        language: str = "",
        return_prepared: bool = False,
        return_steps: bool = False,
        min_familiarity: float = 0,
    ) -> Classification:
        """Classify one image. An empty model means the only one of the server, an empty version the highest.

        `top_k` is the number of classes in the answer; 0 gives 5. An image with less than `min_familiarity`, from 0
        (off) to 1, is `unknown`.
        """
        request = make_request(
            image,
            model=model,
            version=version,
            top_k=top_k,
            language=language,
            return_prepared=return_prepared,
            return_steps=return_steps,
            min_familiarity=min_familiarity,
        )
        return read_reply(self._call(self._stub().Classify, request))

    def classify_many(
        self,
        images: Sequence[bytes],
        *,
        model: str = "",
        version: str = "",
        top_k: int = 0,
        language: str = "",
        min_familiarity: float = 0,
    ) -> list[Classification | CallError]:
        """Classify many images in one call. An image that failed has a CallError in its place."""
        request = make_batch_request(
            images, model=model, version=version, top_k=top_k, language=language, min_familiarity=min_familiarity
        )
        return read_batch_reply(self._call(self._stub().BatchClassify, request))

    def classify_stream(
        self, images: Iterable[bytes], *, model: str = "", version: str = "", top_k: int = 0, language: str = ""
    ) -> Iterator[tuple[int, Classification | CallError]]:
        """Classify any number of images over one stream: the number of each, from 0, and its answer or its error.

        Answers come as they are ready, so maybe in another order. Images are read as answers are taken, at most 256
        ahead, in a thread. If the stream ends because its server stops, the images without an answer are sent again.
        `timeout_s` bounds the time without any answer, not that of the stream.
        """
        make = partial(make_stream_request, model=model, version=version, top_k=top_k, language=language)
        unanswered = Unanswered(make, self._max_message_bytes)
        return stream_in_threads(images, unanswered, self._open_stream, self._explain, self._timeout_s)

    def list_models(self) -> pb.ListModelsResponse:
        """The served models, and the refused model files with reasons."""
        reply: pb.ListModelsResponse = self._call(self._stub().ListModels, pb.ListModelsRequest())
        return reply

    def get_model(self, model: str = "", version: str = "") -> pb.Model:
        """The description of one model."""
        reply: pb.GetModelResponse = self._call(self._stub().GetModel, pb.GetModelRequest(model=model, version=version))
        return reply.model

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return as soon as the server answers. Raises CallError with UNAVAILABLE after `timeout_s`."""
        request = pb.ListModelsRequest()
        try:
            self._stub().ListModels(request, timeout=timeout_s, wait_for_ready=True, metadata=self._endpoint.metadata)
        except grpc.RpcError as error:
            found = self._explain(error)
            raise (no_server(timeout_s) if found.reason == GRPC_REASON else found) from error

    def close(self) -> None:
        """Close the connections. Calls under way fail with CANCELLED."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stub(self) -> ClassifierServiceStub:
        """The stub of the next connection, round-robin."""
        return next(self._stubs)

    def _call(self, method: Callable[..., Reply], request: Any) -> Reply:
        check_request_size(request, self._max_message_bytes)
        try:
            reply = method(request, timeout=self._timeout_s, metadata=self._endpoint.metadata)
        except grpc.RpcError as error:
            raise self._explain(error) from error
        self._has_answered = True
        return reply

    def _open_stream(self, requests: Iterator[pb.StreamClassifyRequest]) -> Any:
        return self._stub().StreamClassify(requests, metadata=self._endpoint.metadata)

    def _explain(self, error: Any) -> CallError:
        """The error of a failed call. If no server has answered yet, TLS may be the reason."""
        found = read_rpc_error(error)
        if may_be_tls(found, self._has_answered) and (sentence := explain_failure(self._endpoint)):
            return tls_failed(sentence)
        return found


def open_client(endpoint: Endpoint, connections: int = 1) -> Client:
    """A client of an endpoint. Raises ConfigError."""
    return Client(
        endpoint.address,
        connections=connections,
        tls_ca=endpoint.tls_ca,
        tls_cert=endpoint.tls_cert,
        tls_key=endpoint.tls_key,
        token=endpoint.token,
    )


def may_be_tls(error: CallError, has_answered: bool) -> bool:
    """Whether a failed call never reached a server, so that a handshake may tell more."""
    return error.reason == GRPC_REASON and error.code in NO_CONNECTION and not has_answered


def tls_failed(sentence: str) -> CallError:
    """The error of a call for which the handshake failed."""
    return CallError("UNAVAILABLE", "TLS_FAILED", sentence)
