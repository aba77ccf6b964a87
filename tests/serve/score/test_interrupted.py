"""`python -m serve.score`: a run that was interrupted goes on, or says why it cannot."""

import os
import signal
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.serve.score.test_command import read_csv, run, start
from tests.served import is_alive, wait_until
from tests.support import Png, write_tiny_model


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


def test_a_second_run_to_the_same_file_is_refused_at_once(many: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.csv")
    with start(many, "images", "--out", out) as first:
        assert wait_until((tmp_path / "out.csv.shards/plan.json").exists, within_s=60)
        code, errors = run(many, "images", "--out", out)
        first.kill()
    assert (code, "another process writes there" in errors) == (1, True), errors


def write_files(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """Write texts by their names in a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return files


def read_files(folder: Path) -> dict[str, str]:
    """The texts of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "files",
    [{"precious/file": "mine"}, {"my-notes.txt": "mine"}, {"plan.json": '{"rooms": 3}'}, {"plan.json": "no JSON"}],
    ids=["folder", "hyphen", "other plan", "no plan"],
)
@pytest.mark.parametrize("place", ["images", "models"])
def test_a_folder_of_other_files_is_refused_and_left_as_it_is(folder: Path, files: dict[str, str], place: str) -> None:
    """Also by a run that fails before its first shard: models has no image."""
    write_files(folder / "out.csv.shards", files)
    code, errors = run(folder, place, "--out", "out.csv")
    assert (code, errors.startswith("serve.score: --out: wanted out.csv.shards to be new, ")) == (2, True), errors
    assert read_files(folder / "out.csv.shards") == files


def test_a_run_may_begin_in_an_empty_folder(folder: Path) -> None:
    (folder / "out.csv.shards").mkdir()
    assert run(folder, "images", "--out", "out.csv")[0] == 0
    assert not (folder / "out.csv.shards").exists()


def test_a_run_goes_on_whose_plan_was_not_written_to_its_end(folder: Path) -> None:
    write_files(folder / "out.csv.shards", {"plan.json.unfinished": "{"})
    code, errors = run(folder, "images", "--out", "out.csv")
    assert (code, (folder / "out.csv.shards").exists()) == (0, False), errors


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


def test_files_beside_the_shards_of_a_run_are_kept(begun: Path) -> None:
    files = write_files(begun / "out.csv.shards", {"my-notes.txt": "mine", "000000-mine": "mine", "deep/whole": "mine"})
    write_tar(begun, NAMES)
    code, errors = run(begun, "in.tar", "--out", "out.csv", "--shard-size", "2")
    assert (code, "7 images, 4 in an earlier run" in errors) == (0, True), errors
    assert read_files(begun / "out.csv.shards") == files


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
