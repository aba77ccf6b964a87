"""`python -m serve.client` on odd files, odd names, a dead server, a closed stdout and Ctrl-C: a sentence each."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.client.__main__ import DEAD_AFTER, main
from serve.client.client import DEFAULT_MAX_MESSAGE_BYTES
from serve.pb import classifier_pb2 as pb
from tests.certificates import Authority
from tests.support import Png, RunningServer

Captured = pytest.CaptureFixture[str]
DEAD = ["--address", "127.0.0.1:1"]


@pytest.fixture
def image(tmp_path: Path, png: Png) -> Path:
    """One image file, in a folder of its own."""
    file = tmp_path / "images" / "top.png"
    file.parent.mkdir()
    file.write_bytes(png(0))
    return file


def flags(server: RunningServer) -> list[str]:
    return ["--address", server.address, "--model", "bands"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "serve.client", *map(str, arguments)]


def run(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    defaults = {"capture_output": True, "text": True, "timeout": 60}
    return subprocess.run(command(*arguments), check=False, **defaults | options)


def errors_of(out: str) -> list[dict[str, str]]:
    """The errors of lines of JSON, read as strictly as JSON is."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return [json.loads(line, parse_constant=refuse)["error"] for line in out.splitlines()]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe that nobody writes to."""
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path / "pipe.png"


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A file of a tebibyte, which takes no space on the disk."""
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**40)
    return tmp_path / "huge.png"


def test_a_pipe_is_refused_and_not_waited_for(server: RunningServer, fifo: Path, image: Path, capsys: Captured) -> None:
    assert main([*flags(server), str(fifo), str(image)]) == 1
    refused, good, summary = capsys.readouterr().out.splitlines()
    assert "FAILED  INVALID_ARGUMENT: wanted a file, found a pipe, a socket or a device" in refused
    assert " top " in good
    assert summary == "1 of 2 failed"


def test_the_size_of_a_file_is_looked_at_before_it_is_read(server: RunningServer, huge: Path, capsys: Captured) -> None:
    assert main([*flags(server), "--json", str(huge)]) == 1
    (error,) = errors_of(capsys.readouterr().out)
    assert (error["code"], error["reason"]) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert f"at most {DEFAULT_MAX_MESSAGE_BYTES:,} bytes, got {2**40:,}" in error["message"]


@pytest.mark.parametrize(("name", "said"), [("", "got an empty one"), ("a\0b", "null"), ("/dev/zero", "a device")])
def test_a_name_that_is_no_file_is_a_sentence(server: RunningServer, name: str, said: str, capsys: Captured) -> None:
    assert main([*flags(server), "--json", name]) == 1
    (error,) = errors_of(capsys.readouterr().out)
    assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "FILE_UNREADABLE")
    assert said in error["message"]


def test_standard_input_is_an_image(server: RunningServer, image: Path) -> None:
    with image.open() as file:
        done = run(*flags(server), "--json", "-", stdin=file)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["file"], answer["classes"][0]["label"]) == ("-", "top")


def test_standard_input_that_never_ends_is_too_large(server: RunningServer) -> None:
    with Path("/dev/zero").open() as zeros:
        done = run(*flags(server), "--json", "-", stdin=zeros)
    assert done.returncode == 1
    assert errors_of(done.stdout)[0]["reason"] == "MESSAGE_TOO_LARGE"


def test_closed_standard_input_is_a_sentence(server: RunningServer) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *command(*flags(server), "--json", "-")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert errors_of(done.stdout)[0]["message"] == "wanted an image on standard input, which is closed"


def test_standard_input_twice_is_bad_usage(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["-", "-"])
    assert caught.value.code == 2
    assert "standard input (-) at most once" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address", ["127.0.0.1:65536", "127.0.0.1:0", "127.0.0.1:99999999999", "here", ":1", "a:b", ""]
)
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_an_address_without_a_possible_port_is_bad_usage(
    address: str, json_flag: list[str], image: Path, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--address", address, *json_flag, str(image)])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert err == f"serve.client: address: wanted HOST:PORT with a port from 1 to 65535, got {address!r}\n"
    assert [error["reason"] for error in errors_of(out)] == (["USAGE"] if json_flag else [])


def test_a_name_with_line_breaks_and_escapes_stays_one_row(
    server: RunningServer, image: Path, capsys: Captured
) -> None:
    odd = image.with_name("a\n\x1b[31mb\u202e.png")
    image.rename(odd)
    assert main([*flags(server), str(odd)]) == 0
    (row,) = capsys.readouterr().out.splitlines()
    assert "a\\n\\x1b[31mb\\u202e.png  top " in row
    assert row.isprintable()
    assert main([*flags(server), "--json", str(odd)]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(odd)


def test_json_stays_json_where_stdout_is_ascii(server: RunningServer, image: Path) -> None:
    image.rename(odd := image.with_name("café-\U0001f642.png"))
    done = run(*flags(server), "--json", odd, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert json.loads(done.stdout)["file"] == str(odd)


def test_a_dead_server_ends_a_folder_of_10_000_soon(tmp_path: Path, capsys: Captured) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.png").touch()
    began = time.monotonic()
    assert main([*DEAD, str(tmp_path)]) == 1
    *rows, summary = capsys.readouterr().out.splitlines()
    assert time.monotonic() - began < 30
    assert len(rows) == DEAD_AFTER
    assert summary.startswith(f"{DEAD_AFTER} of 10000 failed; {10_000 - DEAD_AFTER} of 10000 were not tried, because ")


def test_json_says_how_many_were_not_tried(tmp_path: Path, capsys: Captured) -> None:
    for number in range(20):
        (tmp_path / f"{number}.png").touch()
    assert main([*DEAD, "--json", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert [error["code"] for error in errors_of(out)] == ["UNAVAILABLE"] * (DEAD_AFTER + 1)
    assert json.loads(out.splitlines()[-1])["not_tried"] == 20 - DEAD_AFTER


def test_files_that_fail_by_themselves_do_not_end_the_rest(
    server: RunningServer, image: Path, capsys: Captured
) -> None:
    assert main([*flags(server), *["missing.png"] * (2 * DEAD_AFTER), str(image)]) == 1
    *_, good, summary = capsys.readouterr().out.splitlines()
    assert " top " in good
    assert summary == f"{2 * DEAD_AFTER} of {2 * DEAD_AFTER + 1} failed"


@pytest.fixture
def secure(start_server: Callable[..., RunningServer], repository_folder: Path, tmp_path: Path) -> RunningServer:
    """A server that speaks TLS."""
    certificate, key = Authority.make("authority").sign().write(tmp_path)
    return start_server(repository_folder, tls_cert=certificate, tls_key=key)


@pytest.mark.parametrize("wait", [[], ["--wait", "1"]])
def test_a_server_with_tls_is_a_sentence_for_a_client_without(
    secure: RunningServer, image: Path, capsys: Captured, wait: list[str]
) -> None:
    try:
        code = main(["--address", secure.address, "--json", *wait, str(image)])
    except SystemExit as ended:
        code = int(str(ended.code))
    (error,) = errors_of(capsys.readouterr().out)
    assert (code, error["code"], error["reason"]) == (1, "UNAVAILABLE", "TLS_FAILED")
    assert error["message"].endswith("speaks TLS: wanted its authorities (tls_ca), got none")


def test_no_server_in_time_is_json(image: Path, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*DEAD, "--json", "--wait", "0.2", str(image)])
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert errors_of(out)[0]["reason"] == "NO_SERVER"
    assert "no server answered within 0.2 s" in err


@pytest.fixture
def answer_with() -> Iterator[Callable[[pb.Classification], str]]:
    """A function that starts a server with one answer to every image, and gives its address."""
    servers = []

    def start(classification: pb.Classification) -> str:
        server = grpc.server(ThreadPoolExecutor(1))
        handler = grpc.unary_unary_rpc_method_handler(
            lambda _, __: pb.ClassifyResponse(classification=classification),
            pb.ClassifyRequest.FromString,
            pb.ClassifyResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.full_name, {"Classify": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.mark.parametrize("probabilities", [[float("nan")], [0.5, float("inf")], []])
def test_an_answer_that_is_none_fails_and_is_never_nan(
    answer_with: Callable[[pb.Classification], str], image: Path, capsys: Captured, probabilities: list[float]
) -> None:
    classes = [pb.ClassProbability(label="top", probability=each) for each in probabilities]
    address = answer_with(pb.Classification(classes=classes))
    assert main(["--address", address, "--json", str(image)]) == 1
    assert errors_of(capsys.readouterr().out)[0]["reason"] == "ANSWER_INVALID"
    assert main(["--address", address, str(image)]) == 1
    assert "FAILED  INTERNAL: wanted " in capsys.readouterr().out


def test_a_label_cannot_forge_a_row(
    answer_with: Callable[[pb.Classification], str], image: Path, capsys: Captured
) -> None:
    address = answer_with(pb.Classification(classes=[pb.ClassProbability(label="a\nb", probability=1)]))
    assert main(["--address", address, str(image)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_a_full_disk_is_one_sentence(server: RunningServer, image: Path, json_flag: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*flags(server), *json_flag, image, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "serve.client: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("reads_input", [False, True])
def test_ctrl_c_ends_at_once_with_130_and_one_sentence(tmp_path: Path, reads_input: bool, image: Path) -> None:
    """The server takes connections and never answers; or standard input never ends."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        arguments = ["--address", f"127.0.0.1:{silent.getsockname()[1]}", *["-"][:reads_input], *[image] * 100]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command(*arguments), text=True, **pipes) as process:  # type: ignore[call-overload]
            if reads_input:
                time.sleep(2)
            else:
                silent.settimeout(30)
                silent.accept()[0].close()  # the client tries again
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == f"serve.client: interrupted after 0 of {100 + reads_input} images\n"
    assert time.monotonic() - began < 10
