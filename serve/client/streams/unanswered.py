"""The requests of one stream that have no answer yet, and when a stream that ended is to be opened again.

Enters: images, responses, failures of a stream. Leaves: requests in their order, outcomes by number, pauses.
Does not know: threads, event loops, channels.
"""

import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from serve.client.messages import GRPC_REASON, Classification, check_request_size, read_stream_reply
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb

WINDOW = 256
"""Images of a stream that are read before the outcome of the first is taken. They are kept, to be sent again."""
MOST_TRIES = 5
"""Streams in succession that may end without an answer."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""Seconds before a stream is opened again, unless the server names another time; they double at each try."""
RETRIED_CODES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED")
"""Codes that another try may mend: no server, one that stops, a full one."""
PUSHBACK = "grpc-retry-pushback-ms"
"""Metadata in which a server says when to come again; a negative time is never (gRFC A6)."""

Outcome: TypeAlias = tuple[int, Classification | CallError]
"""The number of an image, from 0, and its answer or its error."""
MakeRequest: TypeAlias = Callable[[bytes], pb.StreamClassifyRequest]


class Unanswered:
    """The requests of one stream by the numbers of their images. It has no lock of its own."""

    def __init__(self, make_request: MakeRequest, max_message_bytes: int) -> None:
        self._make_request = make_request
        self._max_message_bytes = max_message_bytes
        self._requests: dict[int, pb.StreamClassifyRequest] = {}
        self._count = 0
        self._tries = 0
        self._since_s = 0.0
        self.has_all = False
        """Whether there are no more images."""

    @property
    def is_done(self) -> bool:
        """Whether every image has its outcome."""
        return self.has_all and not self._requests

    @property
    def has_failed(self) -> bool:
        """Whether the last stream ended too early, and no answer has come since."""
        return self._tries > 0

    def add(self, image: bytes) -> Outcome | None:
        """Add the next image; its outcome, if it is too large to be sent."""
        number, self._count = self._count, self._count + 1
        request = self._make_request(image)
        request.id = str(number)
        try:
            check_request_size(request, self._max_message_bytes)
        except CallError as error:
            return number, error
        if not self._requests:
            self._since_s = time.monotonic()
        self._requests[number] = request
        return None

    def find(self, number: int) -> pb.StreamClassifyRequest | None:
        """The first request from this number on."""
        return next((self._requests[each] for each in range(number, self._count) if each in self._requests), None)

    def resolve(self, reply: pb.StreamClassifyResponse) -> Outcome | None:
        """The outcome in a response; none if its request has one already."""
        number = int(reply.id) if reply.id.isdecimal() else -1
        if self._requests.pop(number, None) is None:
            return None
        self._tries, self._since_s = 0, time.monotonic()
        return number, read_stream_reply(reply)

    def is_late(self, timeout_s: float) -> bool:
        """Whether requests have waited that long and no answer came."""
        return bool(self._requests) and time.monotonic() - self._since_s >= timeout_s

    def find_pause_s(self, code: str, metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
        """Seconds before a stream that ended with a code is opened again; None if that would be in vain."""
        self._tries += 1
        pause_s = min(FIRST_PAUSE_S * 2 ** (self._tries - 1), LONGEST_PAUSE_S)
        for key, value in metadata:
            if key == PUSHBACK:
                pause_s = int(value) / 1000 if str(value).isdecimal() else -1
        return pause_s if code in RETRIED_CODES and pause_s >= 0 and self._tries < MOST_TRIES else None

    def say_ended(self) -> CallError:
        """The error of a stream that ended well and too early."""
        sentence = f"wanted an answer to each image, got the end of the stream before {len(self._requests)} of them"
        return CallError("INTERNAL", GRPC_REASON, sentence)


def no_answer(timeout_s: float) -> CallError:
    """The error of a stream on which nothing came in time."""
    return CallError("DEADLINE_EXCEEDED", GRPC_REASON, f"no answer came on the stream within {timeout_s:g} s")
