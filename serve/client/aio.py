"""The typed client for asyncio: the methods and types of `client.py`, as coroutines.

Enters: the bytes of image files. Leaves: frozen dataclasses, or CallError with code, reason and message.
Needs only the base dependencies. Does not know: ONNX Runtime, files, how the server works.

    async with AsyncClient("127.0.0.1:50051") as client:
        print((await client.classify(Path("cat.png").read_bytes(), model="cifar10-cnn")).best)
"""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import grpc

from serve.client.channel import make_call_options, open_aio_channel
from serve.client.client import DEFAULT_MAX_MESSAGE_BYTES, may_be_tls, tls_failed
from serve.client.endpoint import DEFAULT_ADDRESS, make_endpoint
from serve.client.handshake import explain_failure
from serve.client.messages import (
    GRPC_REASON,
    Classification,
    check_request_size,
    make_batch_request,
    make_request,
    make_stream_request,
    no_server,
    read_batch_reply,
    read_reply,
    read_rpc_error,
)
from serve.client.streams.tasks import stream_in_tasks
from serve.client.streams.unanswered import Unanswered
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub


class AsyncClient:
    """Calls one server from one event loop, in which it has to be made. Every method raises CallError.

    It takes what `Client` takes. A task that is cancelled cancels its call.
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
        self._channels = [open_aio_channel(self._endpoint, options) for _ in range(connections)]
        stubs: list[Any] = [ClassifierServiceStub(channel) for channel in self._channels]
        self._stubs = itertools.cycle(stubs)

    async def classify(
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
        return read_reply(await self._call(next(self._stubs).Classify, request))

    async def classify_many(
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
        return read_batch_reply(await self._call(next(self._stubs).BatchClassify, request))

    def classify_stream(
        self,
        images: Iterable[bytes] | AsyncIterable[bytes],
        *,
        model: str = "",
        version: str = "",
        top_k: int = 0,
        language: str = "",
    ) -> AsyncIterator[tuple[int, Classification | CallError]]:
        """Classify any number of images over one stream: the number of each, from 0, and its answer or its error.

        Answers come as they are ready, so maybe in another order. Images are read as answers are taken, at most 256
        ahead. If the stream ends because its server stops, the images without an answer are sent again.
        `timeout_s` bounds the time without any answer, not that of the stream.
        """
        make = partial(make_stream_request, model=model, version=version, top_k=top_k, language=language)
        unanswered = Unanswered(make, self._max_message_bytes)
        return stream_in_tasks(images, unanswered, self._open_stream, self._explain, self._timeout_s)

    async def list_models(self) -> pb.ListModelsResponse:
        """The served models, and the refused model files with reasons."""
        reply: pb.ListModelsResponse = await self._call(next(self._stubs).ListModels, pb.ListModelsRequest())
        return reply

    async def get_model(self, model: str = "", version: str = "") -> pb.Model:
        """The description of one model."""
        request = pb.GetModelRequest(model=model, version=version)
        reply: pb.GetModelResponse = await self._call(next(self._stubs).GetModel, request)
        return reply.model

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Return as soon as the server answers. Raises CallError with UNAVAILABLE after `timeout_s`."""
        ask, metadata = next(self._stubs).ListModels, self._endpoint.metadata
        try:
            await ask(pb.ListModelsRequest(), timeout=timeout_s, wait_for_ready=True, metadata=metadata)
        except grpc.RpcError as error:
            found = await self._explain(error)
            raise (no_server(timeout_s) if found.reason == GRPC_REASON else found) from error

    async def close(self) -> None:
        """Close the connections. Calls under way are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, method: Callable[..., Any], request: Any) -> Any:
        check_request_size(request, self._max_message_bytes)
        try:
            reply = await method(request, timeout=self._timeout_s, metadata=self._endpoint.metadata)
        except grpc.RpcError as error:
            raise await self._explain(error) from error
        self._has_answered = True
        return reply

    def _open_stream(self) -> Any:
        return next(self._stubs).StreamClassify(metadata=self._endpoint.metadata)

    async def _explain(self, error: Any) -> CallError:
        """The error of a failed call. If no server has answered yet, TLS may be the reason."""
        found = read_rpc_error(error)
        if may_be_tls(found, self._has_answered):
            # In a thread, because the handshake blocks.
            sentence = await asyncio.to_thread(explain_failure, self._endpoint)
            return tls_failed(sentence) if sentence else found
        return found
