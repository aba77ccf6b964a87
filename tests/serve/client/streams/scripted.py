"""A server whose streams do what a test says, one after the other."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from serve.api.inkling_v1 import SERVICE
from serve.pb import classifier_pb2 as pb


@dataclass(frozen=True)
class Plan:
    """What a stream does: answers so many requests, then ends with a code."""

    answers: int
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    pushback_ms: str = ""


class Scripted:
    """A server whose streams follow a plan each, and then answer everything; with the image as the model's name."""

    def __init__(self, *plans: Plan, is_silent: bool = False) -> None:
        self._plans = list(plans)
        self._is_silent = is_silent
        self.streams: list[list[str]] = []
        """The ids of the requests of each stream that were answered."""
        self.begun_s: list[float] = []
        self._server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(
            self._answer, pb.StreamClassifyRequest.FromString, pb.StreamClassifyResponse.SerializeToString
        )
        handlers = {"StreamClassify": handler}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()

    def _answer(self, requests: Iterator[pb.StreamClassifyRequest], context: Any) -> Iterator[Any]:
        self.streams.append([])
        self.begun_s.append(time.monotonic())
        if self._is_silent:
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait()
        ids, plan = self.streams[-1], self._plans.pop(0) if self._plans else None
        for request in requests if not plan or plan.answers else ():
            ids.append(request.id)
            yield pb.StreamClassifyResponse(id=request.id, model=request.image.decode())
            if plan and len(ids) == plan.answers:
                break
        if plan and plan.pushback_ms:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", plan.pushback_ms),))
        if plan and plan.code is not grpc.StatusCode.OK:
            context.abort(plan.code, "not now")


def name(count: int) -> list[bytes]:
    """Images for a `Scripted`: each is its own number."""
    return [str(number).encode() for number in range(count)]
