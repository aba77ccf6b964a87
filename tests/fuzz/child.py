"""`python -m tests.fuzz.child images|models`: a process that takes cases, so that a crash or a hang is one of a case.

Enters: cases, one after the other, over a pipe. Leaves: what came of each, with the processor's seconds that it took.
Does not know: mutations, what is to be expected. `Child` is the other end of the pipe.
"""

import asyncio
import gc
import hashlib
import json
import select
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from serve.api.inkling_v1 import check_description
from serve.errors import ImageError, ModelFileError
from serve.images.pool import DecodePool
from serve.images.reader import ImageReader, Prepared
from serve.inference.answer import Answer
from serve.inference.device import Placement
from serve.inference.loader import Loader
from serve.inference.registry import Registry
from serve.inference.runner import RunnerLimits
from serve.machine.cpu_policy import CpuPolicy
from serve.machine.memory import return_free_memory, return_thread_memory
from serve.machine.watchdog import Watchdog
from serve.model_file.folder import ModelFile
from tests.fuzz.budget import Tally
from tests.fuzz.corpus import image_files, policies
from tests.served import resident_bytes
from tests.support import ROOT

MOST_PIXELS = 10_000_000
"""Pixels of an image. Time grows with them, so the bound on time is one on all else that an image may cost."""
LONGEST_CASE_S = 1.0
"""Processor seconds of a case."""
LONGEST_ANSWER_S = 60.0
"""Seconds on a busy machine, after which a child hangs."""
LONGEST_START_S = 600.0
"""Seconds until a child takes its first case; it imports much."""
FAILED = ROOT / "build/fuzz"
"""Where the cases lie that failed."""

Reply = dict[str, float]
"""Outcomes by name, with the seconds of each."""
Take = Callable[[bytes], Reply]


class CaseFailed(AssertionError):
    """A case crashed, hung or had an outcome that none may have."""


class Child:
    """A process that takes cases; one that has died is started again for the next case."""

    def __init__(self, kind: str, tally: Tally) -> None:
        self._kind = kind
        self._tally = tally
        self._process: subprocess.Popen[bytes] | None = None

    def attempt(self, case: bytes) -> None:
        """Have a case taken, and count what came of it. Raises CaseFailed."""
        reply = self._ask(self._process or self._start(), case)
        self._tally.cases += 1
        for outcome, seconds in reply.items():
            name = outcome.partition(":")[0]
            if seconds > LONGEST_CASE_S:
                raise self._fail(case, "HANG", f"{outcome} took {seconds:.2f} s")
            if name == "INTERNAL":
                raise self._fail(case, name, outcome)
            self._tally.note(name, seconds)

    def measure(self) -> int:
        """Resident bytes, once all that is free has been returned."""
        process = self._process or self._start()
        self._ask(process, b"")
        return resident_bytes(process.pid)

    def close(self) -> None:
        """End it."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.fuzz.child", self._kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self._ask(self._process, b"", LONGEST_START_S)
        return self._process

    def _ask(self, process: "subprocess.Popen[bytes]", case: bytes, longest_s: float = LONGEST_ANSWER_S) -> Reply:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(struct.pack(">I", len(case)) + case)
            process.stdin.flush()
            if not select.select([process.stdout], [], [], longest_s)[0]:
                raise self._fail(case, "HANG", f"no answer within {longest_s:.0f} s")
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise self._fail(case, "CRASH", f"ended with {process.wait()}")
        reply: Reply = json.loads(line)
        return reply

    def _fail(self, case: bytes, outcome: str, what: str) -> CaseFailed:
        """Keep the case, and let go of the process."""
        self._tally.note(outcome, 0)
        if outcome != "INTERNAL":
            self.close()
        FAILED.mkdir(parents=True, exist_ok=True)
        path = FAILED / f"{self._kind}-{hashlib.sha256(case).hexdigest()[:12]}.bin"
        path.write_bytes(case)
        return CaseFailed(f"{outcome}: {what} ({path})")


@contextmanager
def child(kind: str, tally: Tally) -> Iterator[Child]:
    """A child that is ended at the end."""
    running = Child(kind, tally)
    try:
        yield running
    finally:
        running.close()


class Images:
    """Reads image files for every registered policy."""

    def __init__(self) -> None:
        self._readers = {named.name: ImageReader(named.make(), MOST_PIXELS) for named in policies()}
        self._good = image_files()["PNG RGB {}"]
        self._wanted = {name: self._read(reader, self._good) for name, reader in self._readers.items()}

    def take(self, case: bytes) -> Reply:
        """Read a case, and a good image after it, whose pixels must be as before."""
        reply: Reply = {}
        for name, reader in self._readers.items():
            start_s = time.process_time()
            outcome = self._name(reader.read(case))
            reply[f"{outcome}:{name}"] = time.process_time() - start_s
            if self._read(reader, self._good) != self._wanted[name]:
                reply[f"INTERNAL: another answer for a good image:{name}"] = 0
        return reply

    def _name(self, found: Prepared | Exception) -> str:
        if isinstance(found, Prepared):
            return "OK" if found.pixels.dtype == "uint8" and found.pixels.ndim == 3 else "INTERNAL: no pixels"
        return found.reason if isinstance(found, ImageError) else f"INTERNAL: {_say(found)}"

    @staticmethod
    def _read(reader: ImageReader, image: bytes) -> bytes:
        found = reader.read(image)
        assert isinstance(found, Prepared), found
        return found.pixels.tobytes()


class Models:
    """Loads model files as a server does, and has those that load answer one image."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._image = image_files()["PNG RGB {}"]
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        threads = ThreadPoolExecutor(1)
        self._registry = Registry()
        self._loader = Loader(
            self._registry,
            Placement("cpu", threads=1, max_batch=4, gpu_memory_bytes=0),
            limits=RunnerLimits(8, 2**24, max_queue_delay_us=0, max_image_pixels=MOST_PIXELS),
            cpu=CpuPolicy(1, 0),
            pool=DecodePool(threads, 1, MOST_PIXELS, MOST_PIXELS),
            watchdog=Watchdog(LONGEST_CASE_S / 2),
            describe=check_description,
        )

    def take(self, case: bytes) -> Reply:
        """Write a case to where a model lies, load it, and remove it again."""
        path = self._folder / "bands/1/model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case)
        start_s = time.process_time()
        outcome = self._loop.run_until_complete(self._load(ModelFile("bands", 1, path)))
        return {outcome: time.process_time() - start_s}

    async def _load(self, file: ModelFile) -> str:
        try:
            await self._loader.load(file)
        except ModelFileError as error:
            return type(error).__name__ if str(error).isprintable() else f"INTERNAL: printed {str(error)!r}"
        except Exception as error:
            return f"INTERNAL: {_say(error)}"
        (answer,) = await self._registry.find("bands", "1").classify([self._image])
        await self._loader.follow([], 1)
        return "loaded" if isinstance(answer, Answer) else f"loaded, {type(answer).__name__}"


def _say(error: Exception) -> str:
    return "".join(traceback.format_exception(error)[-3:])


def serve(take: Take, cases: BinaryIO, replies: BinaryIO) -> None:
    """Take cases until there are no more. An empty one returns all memory that is free."""
    while head := cases.read(4):
        case = cases.read(int.from_bytes(head))
        reply = take(case)
        if not case:
            gc.collect()
            return_thread_memory()
            return_free_memory()
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    kinds = {"images": Images, "models": Models}
    serve(kinds[sys.argv[1]]().take, sys.stdin.buffer, sys.stdout.buffer)
