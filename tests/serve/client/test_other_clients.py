"""docs/serving/clients.md: what the page shows, run; and a health watch with the pings of a balancer."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import ROOT, RunningServer

PAGE = ROOT / "docs/serving/clients.md"
PROTO = ROOT / "proto"
DESCRIPTOR_SET = PROTO / "inkling.binpb"
ADDRESS = "127.0.0.1:50051"
GO_PACKAGES = Path("/usr/share/gocode/src/google.golang.org/grpc")
PACKAGES = ["@grpc/grpc-js", "@grpc/proto-loader"]

needs_tools = pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="needs grpcio-tools, from the extra [test]"
)


@cache
def find_blocks(language: str) -> list[str]:
    """The fenced blocks of a language in the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def find_lines(start: str) -> list[str]:
    """The command lines in the page that begin with a word."""
    lines = [line[2:] for block in find_blocks("console") for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


@pytest.fixture(scope="module")
def shipped(start_server: Callable[..., RunningServer]) -> Iterator[RunningServer]:
    """A server with the shipped models."""
    server = start_server(ROOT / "models")
    yield server
    server.stop()


def load_generator() -> ModuleType:
    """proto/generate.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate", PROTO / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_tools
def test_the_descriptor_set_is_that_of_the_proto() -> None:
    """Files of other projects may differ by the version that is installed: their names are compared."""
    committed = FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())
    made = FileDescriptorSet.FromString(load_generator().make_descriptor_set())
    assert [file.name for file in committed.file] == [file.name for file in made.file], "run: make proto"
    ours = [file for file in committed.file if not file.name.startswith("google/")]
    assert ours == [file for file in made.file if not file.name.startswith("google/")], "run: make proto"
    assert {file.package for file in ours} == {"inkling.v1", "inference"}


def test_the_descriptor_set_can_be_used_alone() -> None:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes()).file:
        pool.Add(file)
    service, status = (
        pool.FindServiceByName("inkling.v1.ClassifierService"),
        pool.FindMessageTypeByName("google.rpc.Status"),
    )
    assert {"Classify", "ListModels"} <= set(service.methods_by_name)
    assert set(status.fields_by_name) == {"code", "message", "details"}


@needs_tools
def test_stubs_are_generated_with_the_include_path_of_the_page(tmp_path: Path) -> None:
    (line,) = find_lines("python -m grpc_tools")
    line = line.replace("-Iproto", f"-I{PROTO}").replace("python ", f"{sys.executable} ")
    script = "\n".join([*find_lines("mkdir"), line])
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True, capture_output=True)
    made = {path.name for path in (tmp_path / "build/stubs/inkling/v1").iterdir()}
    assert made == {"classifier_pb2.py", "classifier_pb2_grpc.py"}


def test_the_example_for_asyncio_runs(shipped: RunningServer) -> None:
    (example,) = find_blocks("py")
    command = [sys.executable, "-c", example.replace(ADDRESS, shipped.address)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in rows] == sorted(path.name for path in (ROOT / "samples/digits").glob("*.png"))
    assert all(name[0] == label and 0 < float(probability) <= 1 for name, label, probability in rows)


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of npm that the page names."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("needs npm and node")
    folder = tmp_path_factory.mktemp("node")
    (line,) = find_lines("npm install")
    assert line.split()[2:] == PACKAGES
    command = [*line.split(), "google-proto-files", "--no-audit", "--no-fund", "--fetch-retries=0"]
    (folder / "package.json").write_text("{}")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"needs a registry of npm: {done.stderr.splitlines()[:1]}")
    return folder


def run_node(folder: Path, script: str, server: RunningServer) -> str:
    """Run the page's line with a script."""
    (folder / "classify.js").write_text(script)
    (line,) = find_lines("node")
    words = line.replace(ADDRESS, server.address).split()
    words = [str(ROOT / word) if (ROOT / word).exists() else word for word in words]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_javascript_calls_with_the_descriptor_set(node_folder: Path, shipped: RunningServer) -> None:
    (script,) = find_blocks("javascript")
    assert run_node(node_folder, script, shipped) == "7\n"


@pytest.mark.slow
def test_javascript_calls_with_the_proto_and_the_include_path(node_folder: Path, shipped: RunningServer) -> None:
    (script,), (other,) = find_blocks("javascript"), find_blocks("js")
    loading = next(line for line in script.splitlines() if line.startswith("const definition"))
    changed = script.replace(loading, other.replace("'proto'", f"'{PROTO}'"))
    assert "loadSync" in changed
    assert run_node(node_folder, changed, shipped) == "7\n"


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that the page's lines build with Debian's packages."""
    for tool in ("go", "protoc", "protoc-gen-go"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}, of Debian's golang packages that the page names")
    if not GO_PACKAGES.is_dir():
        pytest.skip(f"needs Debian's package golang-google-grpc-dev, which installs {GO_PACKAGES}")
    folder = tmp_path_factory.mktemp("go")
    (generate,) = (line for line in find_lines("protoc") if "plugins=grpc" in line)
    (build,), (script,) = find_lines("GO111MODULE"), find_blocks("go")
    (folder / "src/classify").mkdir(parents=True)
    (folder / "src/classify/main.go").write_text(script)
    generate = generate.replace("-Iproto", f"-I{PROTO}").replace("python ", f"{sys.executable} ")
    environment = {**os.environ, "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
    for line in (generate, build):
        done = subprocess.run(
            ["bash", "-ec", line], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        if "plugins are not supported" in done.stderr:
            pytest.skip("needs the protoc-gen-go of Debian 12, which writes services, too")
        assert done.returncode == 0, done.stderr
    return folder / "classify"


@pytest.mark.slow
def test_go_calls_with_a_stub_that_the_lines_of_the_page_build(go_program: Path, shipped: RunningServer) -> None:
    (line,) = find_lines("./classify")
    _, address, image = line.replace(ADDRESS, shipped.address).split()
    done = subprocess.run(
        [str(go_program), address, str(ROOT / image)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


@pytest.mark.skipif(not shutil.which("grpcurl"), reason="needs grpcurl, which is no package of Debian")
def test_the_lines_with_grpcurl_run(shipped: RunningServer) -> None:
    lines = [line.replace(ADDRESS, shipped.address) for line in find_lines("grpcurl")]
    models, answer = (
        json.loads(subprocess.run(["bash", "-ec", line], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout)
        for line in lines
    )
    assert "mnist" in {each["name"] for each in models["models"]}
    assert answer["classification"]["classes"][0]["label"] == "7"


@pytest.mark.slow
def test_a_health_watch_with_pings_every_10_s_is_not_ended(shipped: RunningServer) -> None:
    """Balancers and meshes do that. The third ping of a policy that counts them is sent after 30 s."""
    options = [("grpc.keepalive_time_ms", 10_000), ("grpc.http2.max_pings_without_data", 0)]
    with grpc.insecure_channel(shipped.address, options=options) as channel:
        ask: Any = health_pb2_grpc.HealthStub(channel).Watch  # type: ignore[attr-defined]  # set in its __init__
        watch = ask(health_pb2.HealthCheckRequest())
        timer = threading.Timer(40, watch.cancel)
        timer.start()
        seen = []
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(reply.status for reply in watch)
        timer.cancel()
    assert caught.value.code() is grpc.StatusCode.CANCELLED, caught.value.details()
