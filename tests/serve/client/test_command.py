"""`python -m serve.client`: files, folders and globs give rows or JSON lines."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.client import evaluate
from serve.client.__main__ import main
from serve.client.commands.files import find_images
from serve.client.commands.output import BAR_WIDTH, bar
from tests.support import Png, RunningServer


@pytest.fixture
def images(tmp_path: Path, png: Png) -> Path:
    """A folder with an image, an image in a subfolder, and a text file."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "a-top.png").write_bytes(png(0))
    (tmp_path / "deep" / "b-bottom.JPG").write_bytes(png(2, (60, 60), format_name="JPEG"))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def run(server: RunningServer, *arguments: object) -> int:
    return main(["--address", server.address, "--model", "bands", *map(str, arguments)])


def test_a_folder_gives_a_row_per_image_in_order(
    server: RunningServer, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, images) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == [str(images / "a-top.png"), "top"]
    assert second.split()[:2] == [str(images / "deep" / "b-bottom.JPG"), "bottom"]
    assert "█" in first
    assert "%" in first


def test_json_gives_a_line_per_image(server: RunningServer, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "--json", "--top", 1, "--language", "ru", images / "a-top.png") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["classes"][0]["label"] == "верх"
    assert len(answer["classes"]) == 1
    assert (answer["model"], answer["version"]) == ("bands", "2")
    assert answer["timing"]["total_us"] > 0


def test_a_failed_image_is_shown_in_its_place_with_exit_code_1(
    server: RunningServer, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, images / "notes.txt", images / "missing.png", images / "a-top.png") == 1
    text, missing, good, summary = capsys.readouterr().out.splitlines()
    assert "FAILED  INVALID_ARGUMENT" in text
    assert "No such file" in missing
    assert " top " in good
    assert summary == "2 of 3 failed"


def test_a_failed_image_is_a_json_line(server: RunningServer, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "--json", images / "notes.txt") == 1
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "IMAGE_UNREADABLE"


def test_a_folder_without_images_is_shown_as_failed_with_exit_code_1(
    server: RunningServer, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = images / "empty"
    (empty / "no-image.png").mkdir(parents=True)
    (empty / "._1.png").write_bytes(b"of a Mac")
    (empty / "notes.txt").write_text("no image")
    assert run(server, images / "a-top.png", empty) == 1
    printed = capsys.readouterr()
    _, failed, summary = printed.out.splitlines()
    assert printed.err == "serve.client: left out 1 hidden (._1.png); 1 no picture (notes.txt)\n"
    assert failed.startswith(str(empty))
    assert "FAILED  INVALID_ARGUMENT: wanted images in the folder, found none" in failed
    assert summary == "1 of 2 failed"


@pytest.mark.parametrize("top", ["3000000000", "-1", "many", "\u00b2", "1.5"])
def test_an_impossible_number_of_labels_is_bad_usage(
    images: Path, capsys: pytest.CaptureFixture[str], top: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--top", top, str(images)])
    assert caught.value.code == 2
    assert "argument --top: wanted a number of labels from 0 (five) to 2,147,483,647" in capsys.readouterr().err


def test_globs_are_expanded_if_the_shell_does_not_do_it(images: Path) -> None:
    assert find_images([f"{images}/*.png", f"{images}/**/*.JPG"]).names == [
        str(images / "a-top.png"),
        str(images / "deep" / "b-bottom.JPG"),
    ]


def test_the_name_of_an_existing_file_is_not_a_glob(images: Path, png: Png) -> None:
    """A file that is downloaded twice is often called `photo[1].png`."""
    for name in ("photo1.png", "photo[1].png", "set[ab]/1.png", "seta/1.png"):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes(png(0))
    assert find_images([f"{images}/photo[1].png", f"{images}/set[ab]"]).names == [
        str(images / "photo[1].png"),
        str(images / "set[ab]" / "1.png"),
    ]


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_a_name_that_is_not_utf_8_is_printed_with_escapes(
    server: RunningServer, images: Path, json_flag: list[str]
) -> None:
    """Old archives have such names. Python decodes them to surrogates, which a strict terminal refuses."""
    (images / os.fsdecode(b"caf\xe9.png")).write_bytes((images / "a-top.png").read_bytes())
    command = [sys.executable, "-m", "serve.client", "--address", server.address, "--model", "bands", *json_flag]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    ran = subprocess.run([*command, images], check=False, capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "serve.client: left out 1 no picture (notes.txt)\n")
    (name,) = [line for line in ran.stdout.splitlines() if "caf" in line]
    assert "caf\\udce9.png" in name


def test_a_name_that_is_too_long_is_shown_as_failed(
    server: RunningServer, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, "n" * 300, images / "a-top.png") == 1
    failed, good, _ = capsys.readouterr().out.splitlines()
    assert "FAILED  INVALID_ARGUMENT: wanted a file that can be read" in failed
    assert " top " in good


def test_without_a_server_there_is_a_message_and_exit_code_1(capsys: pytest.CaptureFixture[str], images: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--address", "127.0.0.1:1", "--wait", "0.5", str(images)])
    assert caught.value.code == 1
    assert "no server answered within 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["serve.client", "serve.evaluate"])
def test_the_help_names_the_variable_that_holds_the_address(module: str) -> None:
    helped = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "default: INKLING_ADDRESS, else 127.0.0.1:50051" in " ".join(helped.stdout.split())


@pytest.mark.parametrize("main_of", [main, evaluate.main], ids=["client", "evaluate"])
def test_without_the_flag_the_address_is_that_of_the_variable(
    main_of: Callable[[list[str]], int],
    tmp_path: Path,
    png: Png,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a.png").write_bytes(png(0))
    monkeypatch.setenv("INKLING_ADDRESS", "127.0.0.1:1")
    assert main_of([str(tmp_path)]) == 1
    assert "127.0.0.1:1:" in capsys.readouterr().out


def test_no_images_at_all_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


@pytest.mark.parametrize(("share", "full"), [(0, 0), (0.5, BAR_WIDTH // 2), (1, BAR_WIDTH)])
def test_the_length_of_a_bar_is_its_share(share: float, full: int) -> None:
    assert bar(share).count("█") == full
    assert len(bar(share)) == BAR_WIDTH


def test_a_closed_pipe_gives_no_traceback(server: RunningServer, images: Path) -> None:
    command = [sys.executable, "-m", "serve.client", "--address", server.address, "--model", "bands", "--json"]
    command += [str(images / "a-top.png")] * 200
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
