"""`python -m serve.client` on odd files, odd names and odd addresses: a sentence each."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serve.client.__main__ import DEAD_AFTER, main
from serve.client.client import DEFAULT_MAX_MESSAGE_BYTES
from tests.support import RunningServer

Captured = pytest.CaptureFixture[str]


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


NOT_UTF_8 = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("serve.client", ["--model", NOT_UTF_8, "x.png"], "argument --model: wanted a text in UTF-8, got "),
        ("serve.client", ["--language", NOT_UTF_8, "x.png"], "argument --language: wanted a text in UTF-8, got "),
        ("serve.client", ["--address", f"{NOT_UTF_8}:50", "x.png"], "address: wanted HOST:PORT in UTF-8, got "),
        ("serve.client.commands.models", ["show", NOT_UTF_8], "argument NAME: wanted a text in UTF-8, got "),
        ("serve.client.commands.models", ["show", "--version", NOT_UTF_8], "argument --version: wanted a text in "),
        ("serve.client.commands.models", ["load", NOT_UTF_8], "argument NAME: wanted a text in UTF-8, got "),
        ("serve.client.commands.models", ["list", "--address", f"{NOT_UTF_8}:50"], "address: wanted HOST:PORT in "),
        ("serve.health", [NOT_UTF_8], "argument service: wanted a text in UTF-8, got "),
        ("serve.evaluate", ["--model", NOT_UTF_8, "images"], "argument --model: wanted a text in UTF-8, got "),
        ("serve.evaluate", ["--compare", "1", NOT_UTF_8, "images"], "argument --compare: wanted a text in UTF-8, got "),
        ("serve.web", ["--address", f"{NOT_UTF_8}:50", "--port", "0"], "address: wanted HOST:PORT in UTF-8, got "),
    ],
)
def test_an_argument_that_is_not_utf_8_is_bad_usage(module: str, words: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *words], check=False, capture_output=True, text=True, timeout=60
    )
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, said in last, "\\udcff" in last) == (2, True, True), done.stderr


@pytest.mark.parametrize("flag", [[], ["--json"]])
@pytest.mark.parametrize("module", ["serve.client", "serve.evaluate", "serve.client.commands.models"])
def test_closed_standard_output_is_no_traceback(
    server: RunningServer, image: Path, module: str, flag: list[str]
) -> None:
    """Python has no sys.stdout then. What was asked for is done."""
    image.parent.rename(folder := image.parent.with_name("top"))
    words = {
        "serve.client": ["--model", "bands", folder],
        "serve.evaluate": ["--model", "bands", folder.parent],
        "serve.client.commands.models": ["list"],
    }[module]
    closed = ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", module]
    done = subprocess.run(
        [*closed, *words, "--address", server.address, *flag],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_json_stays_json_where_stdout_is_ascii(server: RunningServer, image: Path) -> None:
    image.rename(odd := image.with_name("café-\U0001f642.png"))
    done = run(*flags(server), "--json", odd, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert json.loads(done.stdout)["file"] == str(odd)


def test_files_that_fail_by_themselves_do_not_end_the_rest(
    server: RunningServer, image: Path, capsys: Captured
) -> None:
    assert main([*flags(server), *["missing.png"] * (2 * DEAD_AFTER), str(image)]) == 1
    *_, good, summary = capsys.readouterr().out.splitlines()
    assert " top " in good
    assert summary == f"{2 * DEAD_AFTER} of {2 * DEAD_AFTER + 1} failed"
