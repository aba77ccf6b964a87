"""`python -m serve.score`: whole runs over real files with the tiny model, and runs that are interrupted."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from serve.client.client import Client
from tests.served import is_alive, wait_until
from tests.support import ROOT, Png, RunningServer, write_tiny_model

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


@pytest.fixture
def folder(tmp_path: Path, png: Png) -> Path:
    """Seven images in two folders, one of which is broken, and the tiny model in versions 1 and 2."""
    for version in (1, 2):
        write_tiny_model(tmp_path / "models/bands", version)
    for number in range(7):
        file = tmp_path / f"images/{number % 2}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number % 3) if number != 4 else png(1, (64, 64))[:-60])
    (tmp_path / "images/notes.txt").write_text("no image")
    return tmp_path


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


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, png: Png) -> Path:
    """Enough images that a run can be interrupted."""
    folder = tmp_path_factory.mktemp("many")
    write_tiny_model(folder / "models/bands")
    (folder / "images").mkdir()
    for number in range(3000):
        (folder / f"images/{number:04}.png").write_bytes(png(number % 3, (64, 64)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_goes_on_to_the_same_file(
    many: Path, tmp_path: Path, suffix: str, number: signal.Signals
) -> None:
    """It loses at most one shard; the workers of a killed run end by themselves."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra [score]")
    undisturbed, out = tmp_path / f"undisturbed.{suffix}", tmp_path / f"out.{suffix}"
    words = ["images", "--shard-size", "300"]
    assert run(many, *words, "--out", str(undisturbed))[0] == 0
    shards = tmp_path / f"out.{suffix}.shards"
    with start(many, *words, "--out", str(out)) as process:
        assert wait_until(lambda: len(list(shards.glob("0*"))) >= 2, within_s=60)
        children = find_children(process.pid)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGTERM else -9)
    done = len(list(shards.glob("0*")))
    assert 2 <= done < 10
    assert not out.exists()
    assert wait_until(lambda: not any(map(is_alive, children)))
    code, errors = run(many, *words, "--out", str(out))
    assert (code, f"{300 * done:,} in an earlier run" in errors) == (0, True), errors
    assert out.read_bytes() == undisturbed.read_bytes()


def find_children(pid: int) -> list[int]:
    """The worker processes of a run."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_with_a_sentence(many: Path, tmp_path: Path) -> None:
    shards = tmp_path / "out.csv.shards"
    with start(many, "images", "--shard-size", "300", "--out", str(tmp_path / "out.csv")) as process:
        assert wait_until(lambda: len(list(shards.glob("0*"))) >= 1, within_s=60)
        os.kill(find_children(process.pid)[-1], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process ended with exit code -9" in errors
    assert shards.exists()


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


def test_a_second_run_to_the_same_file_is_refused_at_once(many: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.csv")
    with start(many, "images", "--out", out) as first:
        assert wait_until((tmp_path / "out.csv.shards/plan.json").exists, within_s=60)
        code, errors = run(many, "images", "--out", out)
        first.kill()
    assert (code, "another process writes there" in errors) == (1, True), errors


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


NAMES = [f"{number}.png" for number in range(7)]


def write_tar(folder: Path, names: Sequence[str]) -> None:
    """An archive of the same image under these names."""
    with tarfile.open(folder / "in.tar", "w") as archive:
        for name in names:
            archive.add(folder / "images/0/0.png", name)


@pytest.fixture
def begun(folder: Path) -> Path:
    """A folder with a run that broke off behind its second shard of two images."""
    write_tar(folder, NAMES)
    with tarfile.open(folder / "in.tar") as archive:
        middle = archive.getmembers()[4].offset_data + 10
    (folder / "in.tar").write_bytes((folder / "in.tar").read_bytes()[:middle])
    code, errors = run(folder, "in.tar", "--out", "out.csv", "--shard-size", "2")
    assert (code, "wanted a whole tar file" in errors) == (1, True), errors
    assert [path.name[:6] for path in sorted((folder / "out.csv.shards").glob("0*"))] == ["000000", "000001"]
    return folder


def test_a_run_goes_on_once_its_archive_is_whole(begun: Path) -> None:
    write_tar(begun, NAMES)
    code, errors = run(begun, "in.tar", "--out", "out.csv", "--shard-size", "2")
    assert (code, "7 images, 4 in an earlier run" in errors) == (0, True), errors
    assert [row["path"] for row in read_csv(begun / "out.csv")] == NAMES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--top-k", "2"], "top_k was 1 and is 2"),
        (["--model", "models/bands/1"], "model was "),
        (["--batch", "16"], "batch was 32 and is 16"),
        (["--shard-size", "3"], "shard_size was 2 and is 3"),
    ],
)
def test_a_restart_with_other_settings_is_refused(begun: Path, change: list[str], reason: str) -> None:
    write_tiny_model(begun / "models/bands", 1, gain=5)
    write_tar(begun, NAMES)
    code, errors = run(begun, "in.tar", "--out", "out.csv", "--shard-size", "2", *change)
    assert (code, reason in errors, "remove it to begin anew" in errors) == (2, True, True), errors
    assert len(list((begun / "out.csv.shards").glob("0*"))) == 2


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["new.png", *NAMES], "the images of shard 0 are others"), (NAMES[:2], "there are fewer images")],
)
def test_a_restart_with_other_images_is_refused(begun: Path, names: list[str], reason: str) -> None:
    write_tar(begun, names)
    code, errors = run(begun, "in.tar", "--out", "out.csv", "--shard-size", "2")
    assert (code, reason in errors) == (2, True), errors
