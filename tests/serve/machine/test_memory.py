"""serve.machine.memory: free memory is returned to the system once many calls came and no more come."""

import asyncio
import contextlib
import itertools
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from serve.api.inkling_v1 import SERVICE
from serve.bench.target import process_tree
from serve.machine import memory
from serve.pb.classifier_pb2 import ClassifyRequest
from tests.serve.process.test_server import running
from tests.support import ROOT, SHAPE, Png, make_graph, make_spec
from train.export.onnx_file import measure_self_test, write_model_file

MIB = 2**20
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library gives back as it likes")


def resident_bytes(process: int | str = "self") -> int:
    """Of a process."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def take_and_keep_a_hundredth() -> list[bytes]:
    """50 MiB, of which every hundredth piece stays in use: glibc gives back nothing by itself."""
    pieces = [bytes(1000) for _ in range(50 * MIB // 1000)]
    return pieces[::100]


def test_what_is_free_between_things_in_use_goes_back_to_the_system() -> None:
    kept = take_and_keep_a_hundredth()
    before = resident_bytes()
    memory.return_free_memory()
    assert before - resident_bytes() > 30 * MIB
    assert len(kept) > 500


FREE_END = f"""
from concurrent.futures import ThreadPoolExecutor
from serve.machine import memory
from tests.serve.machine.test_memory import MIB, resident_bytes

def take_and_leave():
    for _ in range(2):  # the first, which is mapped by itself, makes glibc take the second from the arena
        block = bytearray({20 * MIB})
        block[::4096] = bytes(len(block[::4096]))
        del block

with ThreadPoolExecutor(1) as thread:
    thread.submit(int).result()
    before = resident_bytes()
    thread.submit(take_and_leave).result()
    memory.return_free_memory()
    print(resident_bytes() - before)
    thread.submit(memory.return_thread_memory).result()
    print(resident_bytes() - before)
"""


def test_the_free_end_of_a_threads_arena_goes_back_to_the_system() -> None:
    """As a file leaves it that is loaded and closed in a thread. In a process whose memory nobody has used yet."""
    done = subprocess.run([sys.executable, "-c", FREE_END], cwd=ROOT, capture_output=True, text=True, check=True)
    left, after = map(int, done.stdout.split())
    assert left > 15 * MIB, "what this is about"
    assert after < 3 * MIB


async def watch_for(seconds: float, count_calls: Callable[[], int]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(memory.return_after_bursts(count_calls), seconds)


@pytest.mark.parametrize(
    ("claim", "counts", "gives_back"),
    [
        ("many calls, then none", itertools.chain([0], itertools.repeat(500)), True),
        ("many calls, and more all the time", itertools.count(0, 100), False),
        ("no calls", itertools.repeat(500), False),
        ("few calls, with a pause", itertools.chain([0], itertools.repeat(3)), False),
    ],
)
def test_it_goes_back_once_no_call_comes_after_many(
    monkeypatch: pytest.MonkeyPatch, claim: str, counts: Iterable[int], gives_back: bool
) -> None:
    monkeypatch.setattr(memory, "QUIET_S", 0.01)
    kept = take_and_keep_a_hundredth()
    before = resident_bytes()
    numbers = iter(counts)
    asyncio.run(watch_for(0.2, lambda: next(numbers)))
    assert (before - resident_bytes() > 30 * MIB) == gives_back, claim
    assert len(kept) > 500
    memory.return_free_memory()


@pytest.mark.parametrize(("counts", "gives_back"), [([0, 3], True), ([3], False)], ids=["few calls", "no calls"])
def test_it_goes_back_after_a_while_if_there_were_few_calls(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], gives_back: bool
) -> None:
    """They may have been large ones."""
    monkeypatch.setattr(memory, "QUIET_S", 0.01)
    monkeypatch.setattr(memory, "RARELY_S", 0.05)
    kept = take_and_keep_a_hundredth()
    before = resident_bytes()
    numbers = itertools.chain(counts, itertools.repeat(counts[-1]))
    asyncio.run(watch_for(0.5, lambda: next(numbers)))
    assert (before - resident_bytes() > 30 * MIB) == gives_back
    assert len(kept) > 500
    memory.return_free_memory()


def test_a_server_gives_back_what_a_crowd_took(repository_folder: Path, png: Png) -> None:
    request = ClassifyRequest(model="bands", image=png(1)).SerializeToString()

    async def call(address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in range(16)
            ]
            calls = [channel.unary_unary(f"/{SERVICE.full_name}/Classify")(request) for channel in 60 * channels]
            await asyncio.gather(*calls, return_exceptions=True)

    with running(repository_folder) as (process, address):
        asyncio.run(call(address))
        _, worker = process_tree(process.pid)
        before = resident_bytes(worker)
        deadline_s = time.monotonic() + 20
        while before - resident_bytes(worker) < MIB and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert before - resident_bytes(worker) >= MIB


def test_growth_counts_what_the_process_takes_less_what_has_another_reason() -> None:
    others = [0]
    growth = memory.MemoryGrowth(50_000_000, lambda: others[0])
    block = bytearray(b"x") * 100_000_000
    assert growth.is_over()
    others[0] = len(block)
    assert not growth.is_over()
    others[0] = 0
    growth.forgive()
    assert not growth.is_over()
    growth.begin()
    more = bytearray(b"y") * 60_000_000
    assert growth.is_over()
    del block, more
    assert not growth.is_over()
    growth.close()


def test_growth_is_always_over_where_the_system_does_not_tell() -> None:
    growth = memory.MemoryGrowth(2**40)
    growth.close()
    assert growth.is_over()


def test_bytes_are_a_file_until_the_block_ends() -> None:
    with memory.as_file(b"some bytes") as place:
        assert isinstance(place, str)
        assert Path(place).read_bytes() == b"some bytes"
    assert not Path(place).exists()


def test_without_files_in_memory_the_bytes_stay_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with memory.as_file(b"some bytes") as place:
        assert place == b"some bytes"


def test_a_loaded_model_is_in_memory_once(tmp_path: Path) -> None:
    """Its weights, and not its file beside them: the file of ballast is 32 MiB."""
    graph = make_graph(SHAPE)
    ballast = np.random.default_rng(0).random((SHAPE[0] * SHAPE[1] * SHAPE[2], 20_000), np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    graph.graph.node.append(helper.make_node("MatMul", ["flat", "ballast"], ["load"]))
    graph.graph.output.append(helper.make_tensor_value_info("load", TensorProto.FLOAT, ["N", ballast.shape[1]]))
    file = write_model_file(graph, make_spec(self_test=measure_self_test(graph, SHAPE)), tmp_path / "1")
    program = f"""
from pathlib import Path
from serve.inference.device import Placement
from serve.inference.engine import load
from serve.machine.memory import return_free_memory
from tests.serve.machine.test_memory import resident_bytes
before = resident_bytes()
engine = load(Path({str(file)!r}), Placement("cpu", 1, 8, 0))
return_free_memory()
print(resident_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ballast.nbytes < int(done.stdout) < 1.7 * ballast.nbytes
