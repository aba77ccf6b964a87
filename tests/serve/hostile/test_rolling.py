"""A rolling restart: two servers behind a balancer of connections, and the first is told to stop while callers call."""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.served import served
from tests.support import Png

CALLERS = 8
BEFORE_S, AFTER_S = 1.0, 1.5
RETRIED = ["UNAVAILABLE", "CANCELLED"]
"""What a client asks for again: also CANCELLED, which gRPC sends for calls that came with the last shutdown."""


class Balancer:
    """Takes connections on a port of its own and passes their bytes to one server, which can be changed."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),))
        self._thread.start()
        assert self._ready.wait(10)

    def close(self) -> None:
        """Take no more connections, and forget those that there are."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._ended.wait()
        server.close()
        for task in (passing := asyncio.all_tasks() - {asyncio.current_task()}):
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            their_reader, their_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        with contextlib.suppress(asyncio.CancelledError):  # the balancer closes
            await asyncio.gather(copy(reader, their_writer), copy(their_reader, writer))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes of one direction, and its end."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@contextmanager
def balanced(target: str) -> Iterator[Balancer]:
    balancer = Balancer(target)
    try:
        yield balancer
    finally:
        balancer.close()


def make_channel(address: str, retried: list[str]) -> grpc.Channel:
    """A stock channel with gRPC's own retries."""
    policy = {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2}
    config = {"methodConfig": [{"name": [{}], "retryPolicy": {**policy, "retryableStatusCodes": retried}}]}
    options = [("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(address, options=options)


def call_until(stop: threading.Event, address: str, image: bytes, pause_s: float, outcomes: list[str]) -> None:
    """One call after the other; what each gave."""
    request = pb.ClassifyRequest(model="bands", image=image)
    with make_channel(address, RETRIED) as channel:
        classify = ClassifierServiceStub(channel).Classify
        while not stop.is_set():
            try:
                outcomes.append(classify(request, timeout=20).classification.classes[0].label)
            except grpc.RpcError as error:
                outcomes.append(f"{error.code().name}: {error.details()}")
            time.sleep(pause_s)


def roll(models: Path, image: bytes, pause_s: float) -> tuple[Counter[str], int, float]:
    """Restart under calls: what they gave, the first server's exit code, and how long its stop took."""
    stop, outcomes = threading.Event(), list[str]()
    with ExitStack() as stack:
        first, second = (stack.enter_context(served(models, "--workers", "2")) for _ in range(2))
        balancer = stack.enter_context(balanced(first.address))
        arguments = (stop, balancer.address, image, pause_s, outcomes)
        callers = [threading.Thread(target=call_until, args=arguments) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            time.sleep(BEFORE_S)
            balancer.target = second.address
            code, ended_s = first.stop()
            time.sleep(AFTER_S)
        finally:
            stop.set()
            for caller in callers:
                caller.join(60)
    return Counter(outcomes), code, ended_s


@pytest.mark.slow
@pytest.mark.parametrize("pause_s", [0, 0.02])
def test_a_rolling_restart_fails_no_call_of_a_client_with_retries(
    repository_folder: Path, png: Png, pause_s: float
) -> None:
    outcomes, code, ended_s = roll(repository_folder, png(1), pause_s)
    assert list(outcomes) == ["middle"]
    assert outcomes["middle"] > 300
    assert code == 0
    assert ended_s < 10
