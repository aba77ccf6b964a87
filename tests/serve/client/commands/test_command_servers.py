"""`python -m serve.client` with a server that is dead, odd or silent, a full disk and Ctrl-C: a sentence each."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from serve.api.inkling_v1 import SERVICE
from serve.client.__main__ import DEAD_AFTER, main
from serve.pb import classifier_pb2 as pb
from tests.certificates import Authority
from tests.serve.client.commands.test_command_faults import Captured, command, errors_of, flags, run
from tests.support import RunningServer

DEAD = ["--address", "127.0.0.1:1"]


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
