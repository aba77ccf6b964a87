"""`python -m serve.evaluate`: class folders through a running server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.client.commands.examples import MAX_CALL_BYTES, Example, find_language, split_into_calls
from serve.client.evaluate import main, take_sample
from serve.errors import InklingError
from serve.pb import classifier_pb2 as pb
from tests.support import LABELS, Png, RunningServer, write_tiny_model


@pytest.fixture
def examples(tmp_path: Path, png: Png) -> Path:
    """Three images of `top`, one of them wrong, and one of `bottom`."""
    for name, band in (("top/1", 0), ("top/2", 0), ("top/3", 1), ("bottom/1", 2)):
        file = tmp_path / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(png(band))
    return tmp_path


def run(server: RunningServer, *arguments: object) -> int:
    return main(["--address", server.address, "--model", "bands", *map(str, arguments)])


def test_accuracy_is_measured_over_all_images_and_per_class(
    server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, "--json", examples) == 0
    summary = json.loads(capsys.readouterr().out)
    classes = {"bottom": 1, "top": pytest.approx(2 / 3)}
    nothing = {"skipped": 0, "left_out": 0, "part": ""}
    assert summary == {"accuracy": 0.75, "right": 3, "images": 4, "classes": classes, **nothing}


def test_calls_are_filled_and_a_larger_file_is_sent_alone(tmp_path: Path) -> None:
    sizes = [MAX_CALL_BYTES // 2, MAX_CALL_BYTES // 2, 1, MAX_CALL_BYTES + 1, 5] + [1] * 70
    files = [tmp_path / f"{number:02d}.png" for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        with file.open("wb") as opened:
            opened.truncate(size)
    examples = [Example(file, "top") for file in files]
    parts = split_into_calls(examples)
    assert [example for part in parts for example in part] == examples
    assert [len(part) for part in parts] == [2, 1, 1, 64, 7]
    assert split_into_calls([]) == []


@pytest.mark.parametrize(("names", "language"), [({"oben", "unten"}, "de"), ({"top"}, "en"), ({"mid"}, "de")])
def test_folders_may_be_named_in_any_of_the_models_languages(names: set[str], language: str) -> None:
    sets = {"de": ("oben", "mid", "unten"), "en": ("top", "mid", "bottom")}
    model = pb.Model(label_sets=[pb.LabelSet(language_code=code, labels=labels) for code, labels in sets.items()])
    assert find_language(model, names) == language
    with pytest.raises(InklingError, match=r"^wanted folders named mid, oben, unten; got (bottom|top)"):
        find_language(model, {"oben", "top", "bottom"})


@pytest.mark.parametrize("name", ["oben", "top"])
def test_answers_are_in_the_language_of_the_folders(
    start_server: Callable[..., RunningServer],
    tmp_path: Path,
    png: Png,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    write_tiny_model(tmp_path / "models" / "bands", labels={"de": ("oben", "mitte", "unten"), "en": LABELS["en"]})
    file = tmp_path / "images" / name / "1.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(png(0))
    assert run(start_server(tmp_path / "models"), "--json", tmp_path / "images") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1


def test_a_file_that_cannot_be_read_is_a_message(
    server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (examples / "top" / "gone.png").symlink_to("nowhere")
    assert run(server, examples) == 1
    wanted = f"{examples / 'top' / 'gone.png'}: wanted a file that can be read: [Errno 2] No such file"
    assert wanted in capsys.readouterr().out


def test_a_pipe_among_the_images_is_a_message_with_its_path(
    server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(examples / "top" / "pipe.png")
    assert run(server, examples) == 1
    wanted = f"serve.evaluate: {examples / 'top' / 'pipe.png'}: wanted a file, found a pipe, a socket or a device\n"
    assert capsys.readouterr().out == wanted


def test_a_failure_is_json_if_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "classes" / "top").mkdir(parents=True)
    (tmp_path / "classes" / "top" / "1.png").touch()
    for folder, reason in ((tmp_path / "classes" / "top", "NOT_EVALUATED"), (tmp_path / "classes", "GRPC")):
        assert main(["--address", "127.0.0.1:1", "--json", str(folder)]) == 1
        assert json.loads(capsys.readouterr().out)["error"]["reason"] == reason


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_one_sentence(server: RunningServer, examples: Path) -> None:
    command = [sys.executable, "-m", "serve.evaluate", "--address", server.address, "--model", "bands", str(examples)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "serve.evaluate: cannot write to standard output: No space left on device\n"


def test_the_mistakes_are_named(server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, examples) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "0.7500  (3 of 4)" in lines[2]
    assert lines[3].startswith(f"{examples / 'top' / '3.png'}  is top, got middle")
    assert len(lines) == 4


def test_two_versions_are_compared_image_by_image(
    server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, "--compare", 1, 2, examples) == 0
    assert "both right 3, both wrong 1" in capsys.readouterr().out


def test_a_folder_that_is_not_named_by_a_label_is_refused(
    server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (examples / "top").rename(examples / "left")
    assert run(server, examples) == 1
    assert "wanted folders named bottom, middle, top; got left" in capsys.readouterr().out


def test_an_empty_folder_is_refused(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, tmp_path) == 1
    assert "found none" in capsys.readouterr().out


def test_broken_files_are_skipped_and_counted_if_that_is_asked_for(
    server: RunningServer, examples: Path, png: Png, capsys: pytest.CaptureFixture[str]
) -> None:
    (examples / "top" / "half.png").write_bytes(png(0)[:40])
    (examples / "top" / "gone.png").symlink_to("nowhere")
    assert run(server, examples) == 1
    assert "gone.png: wanted a file that can be read" in capsys.readouterr().out
    assert run(server, "--json", "--skip-broken", examples) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["images"], summary["skipped"]) == (4, 2)
    assert run(server, "--skip-broken", examples) == 0
    printed = capsys.readouterr().out
    assert "skipped 2 files that cannot be used" in printed
    assert f"{examples / 'top' / 'half.png'}: wanted" in printed


def test_a_folder_of_broken_files_alone_is_no_accuracy(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "empty.png").touch()
    assert run(server, "--skip-broken", tmp_path) == 1
    assert "wanted images that can be classified, all 1 were skipped" in capsys.readouterr().out


def test_what_is_no_picture_is_left_out_and_said(
    server: RunningServer, examples: Path, png: Png, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("top/._1.png", "__MACOSX/top/._1.png", "top/.ipynb_checkpoints/1-checkpoint.png", "top/notes.txt"):
        (examples / name).parent.mkdir(parents=True, exist_ok=True)
        (examples / name).write_bytes(b"none")
    (examples / "top" / "no suffix").write_bytes(png(0))
    assert run(server, examples) == 0
    printed = capsys.readouterr().out
    assert "(4 of 5)" in printed
    assert "left out 1 left by another program (__MACOSX); 2 hidden (._1.png, .ipynb_checkpoints)" in printed
    assert "1 no picture (notes.txt)" in printed


def test_of_a_split_folder_the_test_part_is_evaluated(
    server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "Test"):
        (examples / part).mkdir()
    for name in ("top", "bottom"):
        (examples / name).rename(examples / "Test" / name)
    (examples / "train" / "middle").mkdir()
    assert run(server, examples) == 0
    printed = capsys.readouterr().out
    assert "(3 of 4)" in printed
    assert "evaluated the part test of the folder's split" in printed


@pytest.mark.parametrize(("label", "folder"), [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")])
def test_composed_and_decomposed_names_are_the_same_class(  # noqa: PLR0917  # fixtures
    start_server: Callable[..., RunningServer],
    tmp_path: Path,
    png: Png,
    capsys: pytest.CaptureFixture[str],
    label: str,
    folder: str,
) -> None:
    write_tiny_model(tmp_path / "models" / "bands", labels={"fr": (label, "milieu", "bas")})
    (tmp_path / "images" / folder).mkdir(parents=True)
    (tmp_path / "images" / folder / "1.jfif").write_bytes(png(0, format_name="JPEG"))
    assert run(start_server(tmp_path / "models"), "--json", tmp_path / "images") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1


def test_what_cannot_be_corrupted_is_a_message(
    server: RunningServer, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, examples, "--corruptions") == 1
    assert "got one of 12 x 12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--corruptions", "rain"], "argument --corruptions: wanted names among gaussian_noise"),
        (["--corruptions", "fog", "--compare", "1", "2"], "--compare, --corruptions: wanted one of them, got both"),
    ],
)
def test_corruptions_that_cannot_be_measured_are_bad_usage(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["images", *flags])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="wanted sh, which Windows has not")
def test_an_error_that_nobody_reads_ends_without_a_trace(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serve.evaluate", str(tmp_path / "none"), "--address", "127.0.0.1:1"]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr


@pytest.mark.parametrize("flag", ["--sample", "--mistakes"])
@pytest.mark.parametrize("number", ["-3", "-1", "2.5", "many"])
def test_what_is_no_whole_number_from_0_is_bad_usage(
    flag: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["images", flag, number])
    assert caught.value.code == 2
    assert f"argument {flag}: wanted a whole number from 0; got {number!r}" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "taken"), [(0, 10), (3, 3), (10, 10), (40, 10)])
def test_a_sample_is_taken_evenly(count: int, taken: int) -> None:
    files = [Path(str(number)) for number in range(10)]
    found = take_sample(files, count)
    assert len(found) == taken
    assert found == sorted(found)
