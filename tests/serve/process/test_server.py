"""serve.process.server and `python -m serve`: start, signals, and the end; as a process where it is one."""

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.client import health
from serve.client.client import Client
from serve.config import ServerConfig
from serve.errors import ConfigError
from serve.pb import classifier_pb2
from serve.pb.classifier_pb2_grpc import ClassifierServiceStub
from tests.support import Png, RunningServer


def has_ipv6() -> bool:
    """Whether this machine can listen on ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@contextmanager
def running(models: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m serve` on a free port: the process, and the address that its log names."""
    command = [sys.executable, "-m", "serve", "--models", str(models), "--port", "0", "--device", "cpu"]
    command += ["--workers", "1", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"serving .* on (\S+:\d+)$", line):
                    yield process, found[1]
                    break
            else:
                pytest.fail("the server ended before it served")
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_after_accepted_calls_are_answered(
    repository_folder: Path, png: Png, number: signal.Signals
) -> None:
    """Calls in flight at the signal are large images, which take long enough to be in flight."""
    request = classifier_pb2.ClassifyRequest(model="bands", image=png(1, (2000, 2000)))
    with running(repository_folder) as (process, address), grpc.insecure_channel(address) as channel:
        stub = ClassifierServiceStub(channel)
        answers = [stub.Classify.future(request, timeout=30) for _ in range(4)]
        stub.ListModels(classifier_pb2.ListModelsRequest())  # sent after them on the same connection: they have come
        process.send_signal(number)
        assert [answer.result().classification.classes[0].label for answer in answers] == ["middle"] * 4
        assert process.wait(10) == 0


async def call_until_refused(channel: grpc.aio.Channel, request: bytes, codes: Counter[str]) -> None:
    """One call after the other, as long as they are answered."""
    classify = channel.unary_unary(f"/{SERVICE.full_name}/Classify")
    with contextlib.suppress(grpc.aio.AioRpcError):
        while True:
            call = classify(request, timeout=30)
            codes[(await call.code()).name] += 1
            await call


RETRIES = """{"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]
}}]}"""


def test_of_retrying_callers_who_do_not_pause_none_is_cancelled(repository_folder: Path, png: Png) -> None:
    """64 of them on 16 connections. A stop cancels calls that are in no handler yet; their retries find no server."""
    request = classifier_pb2.ClassifyRequest(model="bands", image=png(1)).SerializeToString()
    codes: Counter[str] = Counter()

    async def main(process: subprocess.Popen[str], address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", RETRIES)]
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in range(16)
            ]
            callers = [asyncio.create_task(call_until_refused(channel, request, codes)) for channel in 4 * channels]
            while codes["OK"] < 500:
                await asyncio.sleep(0.01)
            process.terminate()
            await asyncio.gather(*callers)

    with running(repository_folder) as (process, address):
        asyncio.run(main(process, address))
        assert process.wait(20) == 0
    assert codes.pop("OK") >= 500
    assert codes == {"UNAVAILABLE": 64}


def test_a_thread_at_work_does_not_delay_the_end_of_the_process() -> None:
    """Nor does any other thread of an executor, for which Python waits otherwise."""
    program = (
        "import time; from concurrent.futures import ThreadPoolExecutor; from serve.__main__ import end; "
        "ThreadPoolExecutor(1).submit(time.sleep, 3600); print('last words'); end(3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (3, b"last words\n")


def test_an_idle_server_stops_at_once(repository_folder: Path) -> None:
    with running(repository_folder, "--grace-s", "60") as (process, _):
        process.terminate()
        assert process.wait(10) == 0


def test_a_port_in_use_is_an_error_that_names_it(server: RunningServer, repository_folder: Path) -> None:
    command = [sys.executable, "-m", "serve", "--models", str(repository_folder), "--port", str(server.server.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 4
    assert f"cannot listen on {server.address}" in ended.stderr


def test_a_folder_without_models_is_an_error_that_names_it(
    start_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        start_server(tmp_path)


def test_a_folder_in_which_every_file_is_refused_is_an_error_that_names_it(
    start_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    path = tmp_path / "bands/1/model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a text file")
    with pytest.raises(ConfigError, match=rf"--models: every model file under {re.escape(str(tmp_path))} was refused"):
        start_server(tmp_path)


def test_the_largest_batch_that_may_be_set_is_one_to_serve_with(
    start_server: Callable[..., RunningServer], repository_folder: Path
) -> None:
    """Twice of it is a number of calls, which gRPC takes in 32 bits."""
    (largest,) = (field.metadata["most"] for field in dataclasses.fields(ServerConfig) if field.name == "max_batch")
    server = start_server(repository_folder, max_batch=largest)
    assert health.ask(server.address, "bands", timeout_s=5) == "SERVING"


@pytest.mark.skipif(not has_ipv6(), reason="needs the IPv6 address ::1")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_listens_on_an_ipv6_address(repository_folder: Path, png: Png, workers: str) -> None:
    with running(repository_folder, "--host", "::1", "--workers", workers) as (_, address), Client(address) as client:
        assert address.startswith("[::1]:")
        assert client.classify(png(1), model="bands").best.label == "middle"


WATCH = """
import os, sys
def watch(event, args):
    writes = event == "open" and isinstance(args[0], str) and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes or event == "socket.connect":
        os.write(2, f"SEEN {event} {args}\\n".encode())
sys.addaudithook(watch)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_it_neither_connects_anywhere_nor_writes_outside_its_folders(
    tmp_path: Path, repository_folder: Path, workers: int
) -> None:
    """An audit hook in every process records connections and files opened to write; the home folder stays empty."""
    home, site = tmp_path / "home", tmp_path / "site"
    home.mkdir()
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCH)
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONPATH": f"{site}:."}
    environment.pop("ORT_DISABLE_TELEMETRY", None)  # the server itself has to set it
    command = [sys.executable, "-B", "-m", "serve", "--models", str(repository_folder), "--port", "0"]
    command += ["--device", "cpu", "--workers", str(workers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving" in line:
                time.sleep(1)  # long enough for a background thread to write or call
                process.terminate()
    assert process.returncode == 0, lines
    assert not [line for line in lines if line.startswith("SEEN")]
    assert not list(home.rglob("*"))


def test_settings_have_the_documented_defaults() -> None:
    config = ServerConfig()
    assert (config.host, config.port, config.models) == ("127.0.0.1", 50051, Path("models"))
