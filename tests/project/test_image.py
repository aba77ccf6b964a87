"""The Dockerfile, built and run: as an unprivileged user on a read-only file system without capabilities.

Needs docker with a running engine, or INKLING_TRY_IMAGE: a command that takes a context, `--`, options of the run,
`--`, arguments of the image, and builds and runs with the host's network (CI sets it). Minutes for the first build.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from serve.client.client import Client
from tests.support import ROOT

MOST_OWN_BYTES = 250 * 10**6
HARDENED = ["--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=2g"]
BASE = re.compile(r"^ARG BASE=(python:[\w.-]+)@(sha256:[0-9a-f]{64})$", re.MULTILINE)


def has_docker_engine() -> bool:
    docker = shutil.which("docker")
    return docker is not None and not subprocess.run([docker, "info"], capture_output=True, check=False).returncode


def find_base() -> tuple[str, str]:
    """The tag and the digest of the image that the Dockerfile begins with."""
    ((tag, digest),) = BASE.findall((ROOT / "Dockerfile").read_text())
    return tag, digest


def start(port: int) -> "subprocess.Popen[str]":
    """Build the default target and run it in the foreground on a port of the loopback address."""
    if tool := os.environ.get("INKLING_TRY_IMAGE"):
        # It has a stand-in for the base by its tag, whose digest is another.
        base = ["--build-arg", f"BASE={find_base()[0]}"]
        command = [tool, str(ROOT), *base, "--", *HARDENED, "--", "--host", "127.0.0.1", "--port", str(port)]
    elif has_docker_engine():
        subprocess.run(["docker", "build", "--quiet", "--tag", "inkling-test", str(ROOT)], check=True)
        command = ["docker", "run", *HARDENED, "--publish", f"127.0.0.1:{port}:50051", "inkling-test"]
    else:
        pytest.skip("no container engine: neither INKLING_TRY_IMAGE nor a docker that answers")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def count_own_bytes(lines: list[str]) -> int:
    """The size of the image less that of its base: docker knows it, the tool prints it."""
    if os.environ.get("INKLING_TRY_IMAGE"):
        (printed,) = [found for line in lines if (found := re.search(r"own layers: (\d+) bytes", line))]
        return int(printed[1])
    base = "@".join(find_base())
    subprocess.run(["docker", "pull", "--quiet", base], check=True, capture_output=True)
    sizes = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", "inkling-test", base],
        check=True,
        capture_output=True,
        text=True,
    )
    image_bytes, base_bytes = map(int, sizes.stdout.split())
    return image_bytes - base_bytes


@pytest.fixture(scope="module")
def container() -> Iterator[tuple["subprocess.Popen[str]", str, list[str]]]:
    """A running container, its address, and what was printed until it served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start(port) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if re.search(r" serving .* on \S+:\d+$", line):
                    break
            else:
                pytest.fail("the container ended before it served:\n" + "".join(lines[-30:]))
            yield process, f"127.0.0.1:{port}", lines
        finally:
            process.terminate()


@pytest.mark.slow
def test_the_container_answers_a_client_and_stops_on_sigterm(
    container: tuple["subprocess.Popen[str]", str, list[str]],
) -> None:
    process, address, lines = container
    with Client(address) as client:
        answer = client.classify((ROOT / "samples/digits/4-28-pixels.png").read_bytes(), model="mnist-cnn")
    assert answer.best.label == "4"
    models = sum(file.stat().st_size for file in (ROOT / "models").rglob("*.onnx"))
    assert models < count_own_bytes(lines) < models + MOST_OWN_BYTES
    process.terminate()
    assert process.wait(30) == 0


def test_the_base_is_given_once_and_by_its_digest() -> None:
    """A tag may move; both stages that begin with it take the same bytes."""
    text = (ROOT / "Dockerfile").read_text()
    assert find_base()[0].startswith("python:3.")
    assert set(re.findall(r"^FROM (\S+) AS", text, re.MULTILINE)) == {"${BASE}", "build", "base"}


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
