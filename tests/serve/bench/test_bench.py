"""`python -m serve.bench`: short runs against its own server with the tiny model, and the figures that it prints."""

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from serve.bench.generators.grpc_aio import GrpcLoad
from serve.bench.load import Plan
from serve.bench.measure import find_file
from serve.bench.peers.triton import SCRIPT, make_infer_request, make_peer_requests
from serve.bench.report import StartRow, summarize
from serve.bench.target import measure_stolen_s, start_server
from serve.bench.workload import CLASSIFY, check_answer, make_requests
from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores
from tests.support import RunningServer, write_tiny_model

needs_h2load = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is not installed (Debian: nghttp2-client)"
)


def run(repository_folder: Path, *flags: str) -> tuple[str, dict[str, object]]:
    """The table and the last line of a short run with the tiny model."""
    command = [sys.executable, "-m", "serve.bench", "--short", "--models", str(repository_folder), "--model", "bands"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True, timeout=60)
    *table, last = done.stdout.splitlines()
    return "\n".join(table), json.loads(last)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--batch", "8"), ("--rate", "50")])
def test_a_short_run_prints_a_table_and_a_line_of_json(repository_folder: Path, flags: tuple[str, ...]) -> None:
    table, facts = run(repository_folder, *flags)
    assert table.splitlines()[0].split()[:3] == ["model", "images_per_s", "p50_ms"]
    (result,) = facts["results"]  # type: ignore[misc]
    assert result["images_per_s"] > 0
    assert result["errors"] == {}
    assert result["p50_ms"] <= result["p99_ms"] <= result["p99.9_ms"]
    assert 0 < result["fraction"] == pytest.approx(result["images_per_s"] / result["ceiling_per_s"], abs=1e-3)
    assert 0 <= result["stolen_cores"] < facts["cores"]  # type: ignore[operator]
    assert result["given_fraction"] >= result["fraction"]
    assert result["health_waits_for_cores"] in (0, 1)
    assert result["pss_mib"] > 10
    assert {"date", "commit", "versions", "cpu", "cores"} <= facts.keys()


@pytest.mark.parametrize("shell", [[], ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]], ids=["", "in the background"])
def test_an_interrupted_run_leaves_no_process_behind(repository_folder: Path, shell: list[str]) -> None:
    """It leaves no traceback either. The children of the benchmark are its server and its probe."""
    command = [*shell, sys.executable, "-m", "serve.bench", "--seconds", "60", "--models", str(repository_folder)]
    with subprocess.Popen([*command, "--model", "bands"], stderr=subprocess.PIPE, text=True) as bench:
        assert bench.stderr is not None
        bench.stderr.readline()  # progress is printed, so the server serves
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text().split()
        bench.terminate()
        printed = bench.stderr.read()
    assert (bench.returncode, printed.splitlines()[-1]) == (1, "serve.bench: interrupted")
    assert "Traceback" not in printed
    assert len(children) > 1
    assert not any(Path(f"/proc/{child}").exists() for child in children)


class SlowTerminal:
    """A file that takes 0.3 s to write a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each line as soon as it comes."""
        for line in lines:
            time.sleep(0.3)
            self.lines.append(line)


def test_the_server_log_is_printed_to_its_last_line(repository_folder: Path) -> None:
    terminal = SlowTerminal()
    with redirect_stderr(terminal), start_server(["--models", str(repository_folder), "--workers", "2"]):  # type: ignore[arg-type]
        pass
    assert terminal.lines[-1].endswith("serve.process.supervisor: stopped\n")


def test_its_server_is_found_whatever_log_level_the_environment_sets(repository_folder: Path) -> None:
    """A failure would wait forever for the line with the address, hence the process with a timeout."""
    flags = ["--models", str(repository_folder), "--workers", "1"]
    script = f"from serve.bench.target import start_server\nwith start_server({flags}) as found: print(found.server)"
    environment = {**os.environ, "INKLING_SERVE_LOG_LEVEL": "error"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.startswith("127.0.0.1:")


@pytest.mark.slow
def test_overload_is_a_multiple_of_the_measured_capacity(repository_folder: Path) -> None:
    (result,) = run(repository_folder, "--overload", "0.5")[1]["results"]  # type: ignore[misc]
    assert result["images_per_s"] == pytest.approx(result["capacity_per_s"] / 2, rel=0.2)


@pytest.mark.parametrize(
    "flags",
    [
        ("--batch", "300"),
        pytest.param(("--batch", "300", "--generator", "h2load"), marks=needs_h2load),
        ("--beside", "300"),
    ],
)
def test_a_request_that_fails_ends_the_benchmark_before_the_load(
    server: RunningServer, repository_folder: Path, flags: tuple[str, ...]
) -> None:
    done = fail("--address", server.address, "--models", str(repository_folder), "--model", "bands", *flags)
    sentence = "/BatchClassify: wanted an answer, got INVALID_ARGUMENT: wanted 1 to 256 images, got 300"
    assert done.stderr.splitlines() == [f"serve.bench: /inkling.v1.ClassifierService{sentence}"]


def test_an_image_that_fails_ends_the_benchmark_before_the_load(server: RunningServer) -> None:
    with pytest.raises(ConfigError, match="wanted an answer for each image, got "):
        check_answer(server.address, make_requests("bands", [b"no image"] * 8, 2)[0], 2)


def test_a_missing_file_for_the_ceiling_ends_it_before_the_load(server: RunningServer, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "other")
    done = fail("--address", server.address, "--models", str(tmp_path), "--model", "bands")
    assert done.stderr.splitlines() == [
        f"serve.bench: --models: wanted the file of bands under {tmp_path} to measure the ceiling, found none"
    ]


def fail(*flags: str) -> "subprocess.CompletedProcess[str]":
    """A run that ends with exit code 1 and without a table."""
    command = [sys.executable, "-m", "serve.bench", "--short", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    return done


def test_single_requests_are_measured_beside_batches_and_beside_singles(repository_folder: Path) -> None:
    (result,) = run(repository_folder, "--beside", "16")[1]["results"]  # type: ignore[misc]
    wanted = result["p99_ms_beside_batches"] / result["p99_ms_beside_singles"]
    assert result["ratio"] == pytest.approx(wanted, abs=1e-3)
    assert min(result["batches_per_s"], result["singles_per_s"]) > 0


def test_a_figure_that_some_rounds_lack_is_the_median_of_the_others() -> None:
    """A round without rejections has no latency of rejections (NaN), and does not lose that of the others."""
    errors = Counter(INTERNAL=1)
    rounds = [StartRow(1, 3.0, 9.0, math.nan, 5.0, errors), StartRow(1, 1.0, math.nan, math.nan, 5.0, errors)]
    row = summarize(rounds)
    assert math.isnan(row.pop("over_imports_s"))
    assert row == {"workers": 1, "imports_s": 2, "start_s": 9, "pss_mib": 5, "errors": {"INTERNAL": 2}}


def test_steal_time_is_that_of_the_usable_cores(tmp_path: Path) -> None:
    """/proc/stat has a line for each core (proc(5)); its eighth number is steal time in ticks."""
    stat = tmp_path / "stat"
    cores = sorted(os.sched_getaffinity(0))
    ours = [f"cpu{core} 9 9 9 9 9 9 9 {10 * (core + 1)} 9 9" for core in cores]
    stat.write_text("\n".join(["cpu 9 9 9 9 9 9 9 99999 9 9", *ours, "cpu9999 9 9 9 9 9 9 9 99999 9 9", "intr 9 9"]))
    mean = sum(10 * (core + 1) for core in cores) / len(cores)
    expected = mean * count_usable_cores() / os.sysconf("SC_CLK_TCK")
    assert measure_stolen_s(stat) == pytest.approx(expected)
    assert measure_stolen_s(tmp_path / "none") == 0


def test_the_request_for_a_peer_is_a_model_infer_request() -> None:
    """Protobuf reads it back with the field numbers of the Open Inference Protocol."""
    file = descriptor_pb2.FileDescriptorProto(name="oip.proto", syntax="proto3")
    kinds = {"string": 9, "bytes": 12, "int64": 3, "message": 11}

    def add(message: str, *fields: tuple[str, int, str, int]) -> None:
        made = file.message_type.add(name=message)
        for name, number, kind, label in fields:
            made.field.add(name=name, number=number, type=kinds[kind], label=label)

    add("Tensor", ("name", 1, "string", 1), ("datatype", 2, "string", 1), ("shape", 3, "int64", 3))
    add("Request", ("model", 1, "string", 1), ("inputs", 5, "message", 3), ("raw", 7, "bytes", 3))
    file.message_type[1].field[1].type_name = ".Tensor"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request = message_factory.GetMessageClass(pool.FindMessageTypeByName("Request"))()
    request.ParseFromString(make_infer_request("mnist-cnn", bytes(300)))
    (tensor,) = request.inputs
    assert (request.model, tensor.name, tensor.datatype, list(tensor.shape)) == ("mnist-cnn", "image", "BYTES", [1, 1])
    assert list(request.raw) == [(300).to_bytes(4, "little") + bytes(300)]


def test_a_peer_that_does_not_serve_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="--peer: wanted an answer of its model m"):
        make_peer_requests("127.0.0.1:9", "m", [b"png"], timeout_s=0.2)


def test_the_script_that_starts_the_peer_exists() -> None:
    assert SCRIPT.is_file()


def test_errors_are_counted_by_code(server: RunningServer) -> None:
    plan = Plan(CLASSIFY, 1, 4, 2, 0, 0.3, 0)
    requests = make_requests("bands", [b"no image"], 0)

    async def load() -> dict[str, int]:
        return (await GrpcLoad(server.address, requests, plan, lambda _s, _images: None).run()).errors

    assert set(asyncio.run(load())) == {"INVALID_ARGUMENT"}


@pytest.mark.parametrize(
    "flags",
    [
        ("--batch", "8", "--peer", "python"),
        ("--batch", "8", "--beside", "8"),
        ("--rate", "9", "--overload", "2"),
        ("--beside", "8", "--workers", "2"),
        ("--start", "--overload", "2"),
        ("--rounds", "0"),
        ("--concurrency", "0"),
        ("--connections", "-1"),
        ("--batch", "-8"),
    ],
)
def test_flags_that_no_run_can_follow_are_refused(flags: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "serve.bench", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert flags[0] in done.stderr.splitlines()[-1]


def test_the_ceiling_is_measured_with_the_served_file(repository_folder: Path) -> None:
    assert find_file(repository_folder, "bands", "float32") == repository_folder / "bands/2/model.onnx"
    assert find_file(repository_folder, "bands", "int8") == repository_folder / "bands/2/model.onnx"
