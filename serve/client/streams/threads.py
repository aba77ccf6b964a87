"""One stream for the client for threads: an iterable of images -> an iterator of their outcomes.

Enters: images, and a function that opens a stream. Leaves: outcomes, as they are ready. Does not know: channels.
One thread reads the images, another runs the streams. So a caller that takes no outcomes ends the reading, and images
that take their time hold up no answer.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import grpc

from serve.client.streams.unanswered import WINDOW, Outcome, Unanswered, no_answer
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb

Requests: TypeAlias = Iterator[pb.StreamClassifyRequest]
OpenStream: TypeAlias = Callable[[Requests], Any]
"""From the requests of a stream to gRPC's call, which is an iterator of responses."""
Explain: TypeAlias = Callable[[Any], CallError]
"""From gRPC's error to ours."""


def stream_in_threads(
    images: Iterable[bytes], unanswered: Unanswered, open_stream: OpenStream, explain: Explain, timeout_s: float
) -> Iterator[Outcome]:
    """The outcome of each image, as it is ready. Raises CallError, and what reading the images raises."""
    stream = _Stream(unanswered, open_stream, explain)
    threading.Thread(target=stream.read, args=(images,), daemon=True).start()
    threading.Thread(target=stream.run, daemon=True).start()
    try:
        while (outcome := stream.take(timeout_s)) is not None:
            yield outcome
    finally:
        stream.close()


class _Stream:
    """What the threads of one stream share."""

    def __init__(self, unanswered: Unanswered, open_stream: OpenStream, explain: Explain) -> None:
        self._unanswered = unanswered
        self._open = open_stream
        self._explain = explain
        self._changed = threading.Condition()
        """Guards `_unanswered`, `_current`, `_call`, and is told of changes."""
        self._slots = threading.Semaphore(WINDOW)
        self._outcomes: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._problem: Exception | None = None
        """What ended the reading of the images."""
        self._current = 0
        """The number of the stream that runs."""
        self._call: Any = None

    def read(self, images: Iterable[bytes]) -> None:
        """Read images, as there is room for them."""
        try:
            for image in images:
                self._slots.acquire()
                if self._closed.is_set():
                    return
                self._add(image)
        except Exception as error:  # the caller's own: it comes after the outcomes of the images before
            self._problem = error
        finally:
            with self._changed:
                self._unanswered.has_all = True
                self._changed.notify_all()

    def run(self) -> None:
        """Run one stream after another until every image has its outcome."""
        try:
            while not (self._unanswered.is_done or self._closed.is_set()):
                self._run_one()
            self._outcomes.put(self._problem)
        except Exception as error:
            self._outcomes.put(error)

    def take(self, timeout_s: float) -> Outcome | None:
        """The next outcome; None after the last. Raises what ended the stream."""
        while True:
            try:
                outcome = self._outcomes.get(timeout=timeout_s)
            except queue.Empty:
                with self._changed:
                    if self._unanswered.is_late(timeout_s):
                        raise no_answer(timeout_s) from None
                continue
            if isinstance(outcome, Exception):
                raise outcome
            self._slots.release()
            return outcome

    def close(self) -> None:
        """End the threads and the call, whatever they do."""
        self._closed.set()
        self._slots.release()
        with self._changed:
            self._changed.notify_all()
            if self._call:
                self._call.cancel()

    def _add(self, image: bytes) -> None:
        with self._changed:
            outcome = self._unanswered.add(image)
            self._changed.notify_all()
        if outcome:
            self._outcomes.put(outcome)

    def _run_one(self) -> None:
        """Run one stream to its end, and pause if it is to be opened again. Raises CallError."""
        call = self._open(self._send(self._current))
        with self._changed:
            self._call = call
        if self._closed.is_set():
            call.cancel()
        try:
            for reply in call:
                with self._changed:
                    outcome = self._unanswered.resolve(reply)
                if outcome:
                    self._outcomes.put(outcome)
            problem = None
        except grpc.RpcError as error:
            problem = error
        with self._changed:
            self._current += 1
            self._changed.notify_all()
            if self._unanswered.is_done or self._closed.is_set():
                return
            if not problem:
                raise self._unanswered.say_ended()
            pause_s = self._unanswered.find_pause_s(call.code().name, call.trailing_metadata() or ())
        if pause_s is None:
            raise self._explain(problem) from problem
        self._closed.wait(pause_s)

    def _send(self, stream: int) -> Requests:
        """The requests of one stream: those that have no answer yet, then those that come."""
        number = 0
        while request := self._wait_for(number, stream):
            number = int(request.id) + 1
            yield request

    def _wait_for(self, number: int, stream: int) -> pb.StreamClassifyRequest | None:
        """The first request from a number on, once there is one; None if the stream is over or there will be none."""
        with self._changed:
            while stream == self._current and not self._closed.is_set():
                request = self._unanswered.find(number)
                if request or self._unanswered.has_all:
                    return request
                self._changed.wait()
        return None
