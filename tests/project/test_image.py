"""The Dockerfile, built and run: as an unprivileged user on a read-only file system without capabilities.

Needs docker with a running engine, or INKLING_TRY_IMAGE: a command that takes a context, `--`, options of the run,
`--`, arguments of the image, and builds and runs with the host's network (CI sets it). Minutes for the first build.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from serve.client.client import Client
from tests.served import wait_until
from tests.support import ROOT

MOST_OWN_BYTES = 250 * 10**6
HARDENED = ["--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=2g"]
BASE_FILE = ROOT / "requirements/base-image.txt"


def has_docker_engine() -> bool:
    docker = shutil.which("docker")
    return docker is not None and not subprocess.run([docker, "info"], capture_output=True, check=False).returncode


def find_free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def start(port: int, metrics_port: int, web_port: int) -> "subprocess.Popen[str]":
    """Build the default target and run it in the foreground on ports of the loopback address."""
    if tool := os.environ.get("INKLING_TRY_IMAGE"):
        flags = ["--host", "127.0.0.1", "--port", str(port), "--metrics-port", str(metrics_port)]
        command = [tool, str(ROOT), "--", *HARDENED, "--", *flags, "--web-port", str(web_port)]
    elif has_docker_engine():
        base = ["--build-arg", "BASE=" + BASE_FILE.read_text().strip()]
        subprocess.run(["docker", "build", "--quiet", *base, "--tag", "inkling-test", str(ROOT)], check=True)
        ports = {port: 50051, metrics_port: 9464, web_port: 8080}
        published = [f"--publish=127.0.0.1:{own}:{inner}" for own, inner in ports.items()]
        command = ["docker", "run", *HARDENED, *published, "inkling-test", "--web-port", "8080"]
    else:
        pytest.skip("no container engine: neither INKLING_TRY_IMAGE nor a docker that answers")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def count_own_bytes(lines: list[str]) -> int:
    """The size of the image less that of its base: docker knows it, the tool prints it."""
    if os.environ.get("INKLING_TRY_IMAGE"):
        (printed,) = [found for line in lines if (found := re.search(r"own layers: (\d+) bytes", line))]
        return int(printed[1])
    base = BASE_FILE.read_text().strip()
    subprocess.run(["docker", "pull", "--quiet", base], check=True, capture_output=True)
    sizes = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", "inkling-test", base],
        check=True,
        capture_output=True,
        text=True,
    )
    image_bytes, base_bytes = map(int, sizes.stdout.split())
    return image_bytes - base_bytes


@dataclass(frozen=True)
class Container:
    """One that runs."""

    process: "subprocess.Popen[str]"
    ports: list[int]
    """Of gRPC, metrics and the page."""
    lines: list[str]
    """What was printed until it served."""


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    ports = find_free_ports(3)
    with start(*ports) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if re.search(r" serving .* on \S+:\d+$", line):
                    break
            else:
                pytest.fail("the container ended before it served:\n" + "".join(lines[-30:]))
            yield Container(process, ports, lines)
        finally:
            process.terminate()


@pytest.mark.slow
def test_the_container_answers_over_grpc_and_http_and_stops_on_sigterm(container: Container) -> None:
    port, metrics_port, web_port = container.ports
    digit = (ROOT / "samples/digits/4-28-pixels.png").read_bytes()
    with Client(f"127.0.0.1:{port}") as client:
        answer = client.classify(digit, model="mnist-cnn")
    assert answer.best.label == "4"
    assert ask(metrics_port, "GET", "/readyz")[0] == 200
    assert wait_until(lambda: ask(web_port, "GET", "/")[0] == 200)
    assert b"<canvas" in ask(web_port, "GET", "/")[1]
    _, body = ask(web_port, "POST", "/v1/models/mnist-cnn:classify", digit)
    assert json.loads(body)["classification"]["classes"][0]["label"] == "4"
    models = sum(file.stat().st_size for file in (ROOT / "models").rglob("*.onnx"))
    assert models < count_own_bytes(container.lines) < models + MOST_OWN_BYTES
    container.process.terminate()
    assert container.process.wait(30) == 0


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and the body of an answer over HTTP; 0 if nothing listens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "image/png"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def test_make_image_names_the_base_by_its_digest() -> None:
    """A tag may move. Both stages that begin with it take the same bytes."""
    text = (ROOT / "Dockerfile").read_text()
    tag, _, digest = BASE_FILE.read_text().strip().partition("@")
    assert re.fullmatch(r"python:3\.[\w.-]+", tag)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert f"\nARG BASE={tag}\n" in text
    assert set(re.findall(r"^FROM (\S+) AS", text, re.MULTILINE)) == {"${BASE}", "build", "base"}
    assert "--build-arg BASE=$$(cat requirements/base-image.txt)" in (ROOT / "Makefile").read_text()


@pytest.mark.slow
def test_the_list_of_packages_has_every_locked_one(tmp_path: Path) -> None:
    """`make sbom` in a copy; it wants a package index."""
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    done = subprocess.run(["make", "sbom", "LOCKED=1"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "build/sbom.json").read_text())
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements/cpu.txt").read_text(), re.MULTILINE)
    assert found["bomFormat"] == "CycloneDX"
    assert {each["name"].lower() for each in found["components"]} == set(locked)


def test_the_image_begins_in_an_empty_folder() -> None:
    """Weights of a model file that lie elsewhere are refused; here there is nothing that they could name, either."""
    base = (ROOT / "Dockerfile").read_text().split("\nFROM ${BASE} AS base\n")[1]
    assert re.findall(r"^WORKDIR (.*)$", base, re.MULTILINE) == ["/empty"]
    assert not re.search(r"^(?:COPY|ADD) .* /empty", base, re.MULTILINE)


def test_the_image_is_not_root_and_holds_no_training_code() -> None:
    text = (ROOT / "Dockerfile").read_text()
    final_stages = text.split("\nFROM ")[-2:]
    assert all("USER 10001" in stage for stage in final_stages)
    assert "COPY train" not in text
    assert '\nENTRYPOINT ["python", "-m", "serve"]' in text
