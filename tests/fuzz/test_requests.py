"""Mutated requests of every method on a real server, with a good caller beside: none fails as the server's fault."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from serve.client.client import Client
from tests.fuzz.budget import BEFORE, FAULTS, ROUND, Tally, begin, count_cases, count_first, try_cases
from tests.fuzz.corpus import image_files, methods, requests
from tests.fuzz.mutations import Seeds, mutated_messages
from tests.served import Served, resident_bytes, served
from tests.support import Png

# hypothesis would rather print each case, which is a file or a message.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

FEW = 600
MOST_GROWTH = 1.1
"""Resident memory of the worker after all cases over that before them."""
LONGEST_CALL_S = 30.0
"""Seconds on a busy machine, after which a call hangs."""
PAUSE_S = 0.005
"""Seconds between two calls of the good caller."""
QUIET_S = 3.0
"""Seconds without a call, after which a worker has returned what is free."""
PLAIN = ("OK", *(code.name for code in grpc.StatusCode if code.name not in FAULTS))


class Caller:
    """Sends the bytes of requests to one method, as a call or as streams of a few."""

    def __init__(self, channel: grpc.Channel, method: MethodDescriptor, tally: Tally) -> None:
        path = f"/{method.containing_service.full_name}/{method.name}"
        self._reply = GetMessageClass(method.output_type)
        self._is_stream = method.client_streaming
        kind = "stream_stream" if method.server_streaming else "unary_unary"
        self._call = getattr(channel, kind)(path)
        self._tally = tally

    def attempt(self, request: bytes) -> None:
        """Send a request; in a stream, between two others. Raises AssertionError for a fault of the server."""
        start_s = time.monotonic()
        code, replies = self._send(request)
        self._tally.cases += 1
        self._tally.note(code, time.monotonic() - start_s)
        assert code in PLAIN, f"{self._call} answered {code} to {request[:2000]!r}"
        for reply in replies:
            for status in find_statuses(self._reply.FromString(reply)):
                assert status in PLAIN, f"an image or a request of a stream is {status}: {request[:2000]!r}"

    def _send(self, request: bytes) -> tuple[str, list[bytes]]:
        try:
            if self._is_stream:
                return "OK", list(self._call(iter([request, b"", request]), timeout=LONGEST_CALL_S))
            return "OK", [self._call(request, timeout=LONGEST_CALL_S)]
        except grpc.RpcError as error:
            name = error.code().name
            is_hang = name == "DEADLINE_EXCEEDED" and "REQUEST_STALLED" not in str(error.trailing_metadata())
            return ("HANG" if is_hang else name), []


def find_statuses(reply: object) -> Iterator[str]:
    """The codes inside a reply: of the images of a batch, of a request of a stream."""
    codes = {code.value[0]: code.name for code in grpc.StatusCode}
    for part in (reply, *getattr(reply, "results", ())):
        if hasattr(part, "error") and part.HasField("error"):  # type: ignore[attr-defined]
            yield codes[part.error.code]
    if "the server failed" in getattr(reply, "error_message", ""):
        yield "INTERNAL"


class GoodCaller:
    """Asks for the same image again and again, and takes note of every answer that is not the first."""

    def __init__(self, address: str, image: bytes) -> None:
        self._client, self._image = Client(address, timeout_s=LONGEST_CALL_S), image
        self._wanted = self._ask()
        self._ends = threading.Event()
        self.answers = 0
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        self._ends.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> dict[str, float]:
        answer = self._client.classify(self._image, model="bands", top_k=3)
        return {each.label: each.probability for each in answer.classes}

    def _run(self) -> None:
        while not self._ends.wait(PAUSE_S):
            try:
                found = self._ask()
            except Exception as error:  # whatever it is, the test names it
                self.wrong.append(repr(error))
                continue
            self.answers += 1
            if found != self._wanted:
                self.wrong.append(repr(found))


@contextmanager
def good_caller(server: Served, image: bytes) -> Iterator[GoodCaller]:
    caller = GoodCaller(server.address, image)
    try:
        yield caller
    finally:
        caller.close()


@contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


def measure(server: Served) -> int:
    """Resident bytes of the worker, once it has returned what is free."""
    time.sleep(QUIET_S)
    return resident_bytes(server.worker_pids[-1])


def send_all(channel: grpc.Channel, tally: Tally, cases: int, first: int) -> None:
    """So many cases, as many of each method."""
    share = max(1, cases // len(methods()))
    files = Seeds(sorted(data for data in image_files().values() if len(data) < 50_000))
    for number, method in enumerate(methods()):
        caller = Caller(channel, method, tally)
        try_cases(share, mutated_messages(Seeds(requests(method)), files), caller.attempt, first=first + 1000 * number)


def test_the_corpus_has_good_requests_of_every_method() -> None:
    names = {method.name for method in methods()}
    assert {"Classify", "BatchClassify", "StreamClassify", "ModelInfer", "ModelStreamInfer"} <= names
    for method in methods():
        assert requests(method)


@pytest.mark.slow
def test_mutated_requests_are_answered_or_refused(repository_folder: Path, png: Png) -> None:
    cases, tally = count_cases("requests", FEW), begin("requests")
    with served(repository_folder) as server, connected(server.address) as channel:
        with good_caller(server, png(1)) as good:
            send_all(channel, tally, count_first(cases, ROUND), first=BEFORE)
        assert not good.wrong
        tally.bytes_before = measure(server)
        with good_caller(server, png(1)) as good:
            send_all(channel, tally, cases, first=0)
        tally.good, tally.bytes_after = good.answers, measure(server)
        assert len(server.worker_pids) == 1, "a worker has ended"
        assert not server.find("Traceback"), server.find("Traceback")
    assert not good.wrong
    assert good.answers > 10
    assert tally.growth <= MOST_GROWTH
