"""`python -m serve.score`: whole runs over real files with the tiny model, and what cannot be one."""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.client.client import Client
from tests.support import ROOT, Png, RunningServer

BANDS = ("top", "middle", "bottom")


def start(folder: Path, *words: str, **more: object) -> "subprocess.Popen[str]":
    """The command in a folder that holds the images and the model."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "serve.score", "--model", "models/bands", *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        **more,  # type: ignore[call-overload]
    )


def run(folder: Path, *words: str, stdin: str = "") -> tuple[int, str]:
    """The exit code and stderr of the command."""
    with start(folder, *words, stdin=subprocess.PIPE) as process:
        _, errors = process.communicate(stdin, timeout=60)
    return process.returncode, errors


def read_csv(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


ORDER = [0, 2, 4, 6, 1, 3, 5]
"""The images of the folder in the order of their paths."""


def test_a_folder_gives_a_row_for_each_image_in_order(folder: Path) -> None:
    code, errors = run(folder, "images", "--out", "out.csv")
    assert (code, "7 images; 1 have an error" in errors) == (0, True), errors
    rows = read_csv(folder / "out.csv")
    assert [row["path"] for row in rows] == [f"images/{number % 2}/{number}.png" for number in ORDER]
    assert [row["label"] for row in rows] == ["" if number == 4 else BANDS[number % 3] for number in ORDER]
    assert {(row["model"], row["version"], len(row["seal"])) for row in rows} == {("bands", "2", 64)}
    (broken,) = (row for row in rows if row["error"])
    assert (broken["reason"], broken["probability"]) == ("IMAGE_TRUNCATED", "")
    assert not (folder / "out.csv.shards").exists()


def test_labels_and_probabilities_are_those_of_the_server(
    folder: Path, start_server: Callable[..., RunningServer], png: Png
) -> None:
    run(folder, "images", "--out", "out.csv", "--top-k", "3", "--language", "ru")
    with Client(start_server(folder / "models").address) as client:
        for row in read_csv(folder / "out.csv"):
            if not row["error"]:
                answer = client.classify((folder / row["path"]).read_bytes(), top_k=3, language="ru")
                names = [("label", "probability"), ("label_2", "probability_2"), ("label_3", "probability_3")]
                assert [row[label] for label, _ in names] == [each.label for each in answer.classes]
                expected = [each.probability for each in answer.classes]
                assert [float(row[probability]) for _, probability in names] == pytest.approx(expected, abs=1e-6)


def pack(folder: Path, name: str, mode: str) -> str:
    with tarfile.open(folder / name, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder / "images", "images", filter=lambda member: member)
    return name


def write_table(folder: Path) -> str:
    pa = pytest.importorskip("pyarrow", reason="needs the extra [score]")
    pq = pytest.importorskip("pyarrow.parquet")
    files = sorted((folder / "images").rglob("*.png"))
    cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
    paths = [str(file.relative_to(folder)) for file in files]
    pq.write_table(pa.table({"image": cells, "path": paths, "more": list(range(7))}), folder / "in.parquet")
    return "in.parquet"


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: "images/*/*.png",
        lambda folder: "-",
        lambda folder: pack(folder, "in.tar", "w"),
        lambda folder: pack(folder, "in.tar.gz", "w:gz"),
        write_table,
    ],
    ids=["glob", "list", "tar", "compressed tar", "parquet"],
)
def test_the_same_images_in_another_form_give_the_same_rows(folder: Path, make: Callable[[Path], str]) -> None:
    paths = sorted(str(file.relative_to(folder)) for file in (folder / "images").rglob("*.png"))
    place = make(folder)
    assert run(folder, "images", "--out", "folder.csv")[0] == 0
    code, errors = run(folder, place, "--out", "other.csv", stdin="\n".join(paths))
    assert code == 0, errors
    found, expected = read_csv(folder / "other.csv"), read_csv(folder / "folder.csv")
    assert sorted(map(str, found)) == sorted(map(str, expected))
    if not place.endswith(("tar", "gz")):  # an archive has an order of its own
        assert found == expected


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_every_format_has_the_same_rows(folder: Path, suffix: str) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra [score]")
    assert run(folder, "images", "--out", "out.csv")[0] == run(folder, "images", "--out", f"out.{suffix}")[0] == 0
    file = folder / f"out.{suffix}"
    rows = (
        pq.read_table(file).to_pylist() if suffix == "parquet" else list(map(json.loads, file.read_text().splitlines()))
    )
    for row, expected in zip(rows, read_csv(folder / "out.csv"), strict=True):
        assert {name: value or "" for name, value in row.items() if name != "probability"} == {
            name: value for name, value in expected.items() if name != "probability"
        }
        assert row["probability"] == (pytest.approx(float(expected["probability"])) if row["label"] else None)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere", "--out", "out.csv"], "IN: wanted images, found nothing at nowhere"),
        (["models/bands/1/model.onnx", "--out", "out.csv"], "model.onnx is none of them"),
        (["models", "--out", "out.csv"], "IN: wanted images, found none in models"),
        (["images", "--out", "out.txt"], "wanted a file that ends in .csv, .jsonl or .parquet; got out.txt"),
        (["images", "--out", "images/notes.csv"], "images/notes.csv exists already"),
        (["images", "--out", "out.csv", "--top-k", "4"], "--top-k: wanted 1 to 3, the model's classes; got 4"),
        (["images", "--out", "out.csv", "--language", "fr"], "--language: wanted one of en, ru; got 'fr'"),
        (["images", "--out", "out.csv", "--model", "images"], "--model: wanted a model.onnx"),
        (["images", "--out", "out.csv", "--batch", "0"], "wanted a whole number from 1; got '0'"),
    ],
)
def test_bad_usage_ends_with_2_and_a_sentence(folder: Path, words: list[str], reason: str) -> None:
    (folder / "images/notes.csv").touch()
    code, errors = run(folder, *words)
    assert (code, reason in errors) == (2, True), errors
    assert not list(folder.glob("*.shards"))


def test_a_list_on_standard_input_that_is_closed_ends_with_2(folder: Path) -> None:
    command = [sys.executable, "-m", "serve.score", "-", "--model", "models/bands", "--out", "out.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["sh", "-c", '"$@" <&-', "sh", *command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    said = "serve.score: IN: wanted a list of names on standard input, which is closed\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize(("column", "kind"), [("path", "string"), ("more", "int64")])
def test_a_column_without_bytes_is_refused(folder: Path, column: str, kind: str) -> None:
    code, errors = run(folder, write_table(folder), "--column", column, "--out", "out.csv")
    said = f"--column: wanted bytes, or a structure with a field bytes; {column} is {kind}"
    assert (code, said in errors) == (2, True), errors


def test_a_run_without_stderr_writes_the_same_rows(folder: Path) -> None:
    command = [sys.executable, "-m", "serve.score", "images", "--model", "models/bands", "--out", "quiet.csv"]
    words = ["sh", "-c", '"$@" 2>&-', "sh", *command]
    done = subprocess.run(words, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60)
    assert (done.returncode, run(folder, "images", "--out", "out.csv")[0]) == (0, 0)
    assert (folder / "quiet.csv").read_bytes() == (folder / "out.csv").read_bytes()


def test_a_model_that_is_damaged_ends_with_1_and_its_reason(folder: Path) -> None:
    file = folder / "models/bands/2/model.onnx"
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)
    code, errors = run(folder, "images", "--out", "out.csv")
    assert (code, "do not match its inkling.sha256" in errors) == (1, True), errors


def test_a_list_may_name_files_that_are_not_there(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    names = ["images/0/0.png", "images/missing.png", "images", "pipe.png"]
    assert run(folder, "-", "--out", "out.csv", stdin="\n".join(names))[0] == 0
    rows = read_csv(folder / "out.csv")
    assert [row["path"] for row in rows] == names
    assert [row["reason"] for row in rows] == ["", "FILE_UNREADABLE", "FILE_UNREADABLE", "IMAGE_EMPTY"]


@pytest.mark.parametrize("name", ["a\rb.png", "a\nb.png", 'a"b,c.png'], ids=["return", "feed", "quote"])
def test_a_name_that_would_break_a_csv_is_quoted(folder: Path, name: str) -> None:
    """Lines end with a line feed alone; a carriage return stands between quotes."""
    (folder / "images/0/0.png").rename(folder / "images" / name)
    assert run(folder, "images", "--out", "out.csv")[0] == 0
    text = (folder / "out.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert (len(rows), rows[-1]["path"], rows[-1]["label"]) == (7, f"images/{name}", "top")
    assert '"images/' in text
    assert ("\r\n" in text, text[-1]) == (False, "\n")


def test_a_tar_that_ends_too_early_ends_with_1(folder: Path) -> None:
    pack(folder, "in.tar", "w")
    data = (folder / "in.tar").read_bytes()
    (folder / "in.tar").write_bytes(data[: len(data) // 2])
    code, errors = run(folder, "in.tar", "--out", "out.csv")
    assert (code, "wanted a whole tar file" in errors) == (1, True), errors


def test_a_parquet_file_that_is_damaged_ends_with_1(folder: Path) -> None:
    (folder / "in.parquet").write_bytes(b"PAR1" + bytes(100))
    pytest.importorskip("pyarrow", reason="needs the extra [score]")
    code, errors = run(folder, "in.parquet", "--out", "out.csv")
    assert (code, errors.startswith("serve.score: in.parquet: wanted a whole Parquet file")) == (1, True), errors


def test_what_a_terminal_gets_shows_how_far_the_run_is(folder: Path) -> None:
    pty = pytest.importorskip("pty", reason="needs a terminal")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "serve.score", "images", "--model", "models/bands", "--out", "out.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, stderr=theirs, check=False, timeout=60)
    os.close(theirs)
    time.sleep(0.05)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "7 of 7" in shown
    assert "images/s" in shown
