"""Photographs and small images beside a connection that sends small files of many pixels, on a real server."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from PIL import Image

from serve.client.client import Client
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.serve.hostile.images import bombs, tall_png
from tests.served import resident_bytes, served
from tests.support import Png, encode

BOMBS = bombs()
FLOOD = 64
"""Calls of the attacker that are under way all the time."""
LONGEST_PHOTO_S, LONGEST_SMALL_S = 10.0, 1.0
"""Bounds for a busy machine. Without turns and room for others, a photograph waited for half a minute and more."""
MOST_PHOTO_BYTES = 12 * 100_000_000 + 2**28
"""What docs/serving/limits.md states for the images that are decoded, and something for all else."""


class Attacker:
    """One connection that keeps calls with one file under way, and the statuses that it got."""

    def __init__(self, address: str, image: bytes) -> None:
        self._request = pb.ClassifyRequest(model="bands", image=image)
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._classify = ClassifierServiceStub(self._channel).Classify
        self._room = threading.Semaphore(FLOOD)
        self._ends = threading.Event()
        self.statuses: list[str] = []
        self._thread = threading.Thread(target=self._attack)
        self._thread.start()

    def close(self) -> None:
        """Stop, and hang up."""
        self._ends.set()
        self._thread.join(30)
        self._channel.close()

    def _attack(self) -> None:
        while not self._ends.is_set():
            if self._room.acquire(timeout=0.1):
                self._classify.future(self._request, timeout=60).add_done_callback(self._note)
                time.sleep(0.002)

    def _note(self, done: grpc.Future) -> None:
        self._room.release()
        self.statuses.append(done.code().name)


@contextmanager
def attacked(address: str, image: bytes) -> Iterator[Attacker]:
    attacker = Attacker(address, image)
    try:
        yield attacker
    finally:
        attacker.close()


def ask(address: str, image: bytes, times: int, waits_s: list[float], wrong: list[str]) -> None:
    """Call one after the other, and again if the server is overloaded; how long each took in all."""
    with Client(address, timeout_s=30) as client:
        for _ in range(times):
            start_s = time.monotonic()
            while True:
                try:
                    label = client.classify(image, model="bands").best.label
                    wrong.extend([label] * (label != "middle"))
                    break
                except CallError as error:
                    if error.reason != "OVERLOADED":
                        wrong.append(str(error))
                        break
                    time.sleep(0.05)
            waits_s.append(time.monotonic() - start_s)


def photograph() -> bytes:
    """Noise whose middle third is bright."""
    photo = Image.effect_noise((480, 360), 30).convert("RGB")
    photo.paste((255, 255, 255), (0, 120, 480, 240))
    return encode(photo, "JPEG")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "attackers"), [*((name, 1) for name in BOMBS), ("progressive", 6), ("webp", 6)])
def test_photographs_and_small_images_are_answered_beside_files_of_many_pixels(
    repository_folder: Path, png: Png, name: str, attackers: int
) -> None:
    """Whether the files come over one connection or over several."""
    photo_waits_s, small_waits_s, wrong = list[float](), list[float](), list[str]()
    with ExitStack() as stack:
        running = stack.enter_context(served(repository_folder))
        attacks = [stack.enter_context(attacked(running.address, BOMBS[name])) for _ in range(attackers)]
        time.sleep(0.5)
        plans = [(photograph(), 4, photo_waits_s, wrong)] * 4 + [(png(1), 50, small_waits_s, wrong)] * 2
        callers = [threading.Thread(target=ask, args=(running.address, *plan)) for plan in plans]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        memory = resident_bytes(running.worker_pids[0])
        statuses = {status for attack in attacks for status in attack.statuses}
    assert not wrong
    assert max(photo_waits_s) < LONGEST_PHOTO_S
    assert max(small_waits_s) < LONGEST_SMALL_S
    assert memory < MOST_PHOTO_BYTES
    assert statuses <= {"OK", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"}


@pytest.mark.parametrize("height", [65_536, 4_000_000, 50_000_000])
def test_a_tall_image_is_refused_by_its_header_and_takes_no_memory(repository_folder: Path, height: int) -> None:
    """In one column, rows by the million take far more memory than their pixels."""
    image = tall_png(height)
    assert len(image) < 300_000
    with served(repository_folder) as running, Client(running.address) as client:
        before = resident_bytes(running.worker_pids[0])
        for _ in range(4):
            with pytest.raises(CallError, match="65,535 a side, got 1 x") as caught:
                client.classify(image, model="bands")
        assert caught.value.reason == "IMAGE_TOO_LARGE"
        assert resident_bytes(running.worker_pids[0]) - before < 16 * 2**20


def test_a_tall_image_within_the_bound_is_answered_with_its_memory_bounded(repository_folder: Path) -> None:
    with served(repository_folder) as running, Client(running.address) as client:
        assert client.classify(tall_png(65_535), model="bands").best.probability > 0
        assert client.classify(tall_png(700, 65_535), model="bands").best.probability > 0
        assert resident_bytes(running.worker_pids[0]) < MOST_PHOTO_BYTES
