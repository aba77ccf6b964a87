"""serve.model_file.repository: a file is taken once it has stopped changing; what cannot be seen is kept."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from serve.errors import ConfigError
from serve.model_file.repository import MOST_PROBLEMS, STANDBY_VERSIONS, Repository, count_live, read_accuracy
from tests.serve.model_file.test_scan import denied, public_folder
from tests.support import write_tiny_model

__all__ = ["public_folder"]  # a fixture

ALL = count_live("all")


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def list_versions(repository: Repository) -> dict[str, list[int]]:
    return {name: [file.version for file in files] for name, files in repository.models.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two models, at the first look."""
    put(tmp_path / "bands/1/model.onnx", "one")
    put(tmp_path / "hoops/1/model.onnx", "hoops")
    return tmp_path


@pytest.fixture
def repository(folder: Path) -> Repository:
    repository = Repository(folder, "float32", ALL)
    assert repository.look_first() == []
    return repository


@pytest.mark.parametrize(("policy", "count"), [("latest:1", 1), ("latest:12", 12), ("all", ALL)])
def test_a_version_policy_is_a_number_of_versions(policy: str, count: int) -> None:
    assert count_live(policy) == count > 0


def test_a_file_has_the_digest_of_its_bytes(repository: Repository, folder: Path) -> None:
    (file,) = repository.models["bands"]
    assert file.path == folder / "bands/1/model.onnx"
    assert file.digest == hashlib.sha256(b"one").hexdigest()


def test_what_cannot_be_read_has_no_digest(folder: Path) -> None:
    os.mkfifo(put(folder / "bands/2/place").with_name("model.onnx"))
    (folder / "bands/3/model.onnx").mkdir(parents=True)
    repository = Repository(folder, "float32", ALL)
    repository.look_first()
    assert [file.digest != "" for file in repository.models["bands"]] == [False, False, True]


def test_a_new_version_is_taken_at_the_second_look_that_finds_it_the_same(repository: Repository, folder: Path) -> None:
    path = put(folder / "bands/2/model.onnx", "begun")
    repository.look()
    path.write_text("and more")
    repository.look()
    assert list_versions(repository) == {"bands": [1], "hoops": [1]}
    repository.look()
    assert list_versions(repository) == {"bands": [2, 1], "hoops": [1]}


def test_a_model_that_changes_all_the_time_holds_up_no_other(repository: Repository, folder: Path) -> None:
    put(folder / "hoops/2/model.onnx")
    for count in range(3):
        put(folder / "bands/2/model.onnx", "x" * count)
        repository.look()
    assert list_versions(repository) == {"bands": [1], "hoops": [2, 1]}


def test_what_is_removed_is_gone_at_the_second_look(repository: Repository, folder: Path) -> None:
    """In between it may be on its way from one name to another."""
    shutil.rmtree(folder / "bands")
    repository.look()
    assert list_versions(repository) == {"bands": [1], "hoops": [1]}
    repository.look()
    assert list_versions(repository) == {"hoops": [1]}


def test_at_the_first_look_everything_is_taken_as_it_is(folder: Path) -> None:
    repository = Repository(folder, "float32", ALL)
    repository.look_first()
    assert list_versions(repository) == {"bands": [1], "hoops": [1]}


def test_other_bytes_of_the_same_size_and_time_are_seen(repository: Repository, folder: Path) -> None:
    path = folder / "bands/1/model.onnx"
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    repository.look()
    repository.look()
    assert repository.models["bands"][0].digest == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_is_only_touched_stays_what_it_was(repository: Repository, folder: Path) -> None:
    before = repository.models
    (folder / "bands/1/model.onnx").touch()
    repository.look()
    repository.look()
    assert repository.models == before


def test_an_unchanged_file_is_not_read_again(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.model_file.repository.measure_digest", lambda path: pytest.fail(f"{path} was read"))
    repository.look()
    repository.look()
    assert list_versions(repository) == {"bands": [1], "hoops": [1]}


def test_of_many_versions_the_newest_are_read(folder: Path) -> None:
    for version in range(2, 20):
        put(folder / f"bands/{version}/model.onnx")
    repository = Repository(folder, "float32", count_live("latest:2"))
    repository.look_first()
    assert len(repository.models["bands"]) == 2 + STANDBY_VERSIONS
    assert list_versions(repository)["bands"] == [19, 18, 17, 16]


@pytest.mark.parametrize("place", ["bands", "bands/1"])
def test_what_denies_access_for_a_while_keeps_its_files(public_folder: Path, place: str) -> None:
    put(public_folder / "bands/1/model.onnx", "one")
    repository = Repository(public_folder, "float32", ALL)
    repository.look_first()
    before = repository.models
    with denied(public_folder / place):
        problems = repository.look()
        repository.look()
    assert list_versions(repository) == {"bands": [1]}
    assert repository.models == before
    assert problems == [f"cannot read the folder {public_folder / place}: Permission denied"]


def test_a_folder_that_is_missing_for_a_while_keeps_all_its_files(repository: Repository, folder: Path) -> None:
    before = repository.models
    folder.rename(folder.with_name("away"))
    for _ in range(2):
        with pytest.raises(ConfigError, match="is not a folder that can be read"):
            repository.look()
    assert repository.models == before
    folder.with_name("away").rename(folder)
    assert repository.look() == []


def test_a_folder_without_files_is_a_wrong_setting_at_the_first_look_alone(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match="found none"):
        Repository(tmp_path / "hoops", "float32", ALL).look_first()
    repository = Repository(folder, "float32", ALL)
    repository.look_first()
    shutil.rmtree(folder / "bands")
    shutil.rmtree(folder / "hoops")
    repository.look()
    repository.look()
    assert repository.models == {}


def test_a_problem_is_named_once_and_again_when_it_comes_back(repository: Repository, folder: Path) -> None:
    path = put(folder / "model.onnx")
    assert [str(path) in problem for problem in repository.look()] == [True]
    assert repository.look() == []
    path.unlink()
    assert repository.look() == []
    path.touch()
    assert len(repository.look()) == 1


def test_of_many_problems_some_are_named_and_the_others_counted(repository: Repository, folder: Path) -> None:
    for number in range(MOST_PROBLEMS + 5):
        put(folder / f"{number}.onnx")
    problems = repository.look()
    assert (len(problems), problems[-1]) == (MOST_PROBLEMS + 1, "and 5 more")


def write_pair(folder: Path, int8: float, float32: float) -> None:
    """A model file, and one in int8 beside it, that state these accuracies."""
    write_tiny_model(folder, precision="int8", test_accuracy=int8).rename(folder / "1" / "model.int8.onnx")
    write_tiny_model(folder, test_accuracy=float32)


def list_names(repository: Repository) -> list[str]:
    return [file.path.name for file in repository.models["bands"]]


@pytest.mark.parametrize(
    ("int8", "names"),
    [
        (0.99, ["model.int8.onnx", "model.onnx"]),
        (0.951, ["model.int8.onnx", "model.onnx"]),
        (0.95, ["model.int8.onnx", "model.onnx"]),
        (0.9499, ["model.onnx"]),
        (0.0, ["model.onnx"]),
    ],
)
def test_a_file_that_loses_accuracy_is_passed_over(tmp_path: Path, int8: float, names: list[str]) -> None:
    write_pair(tmp_path / "bands", int8, 0.951)
    repository = Repository(tmp_path, "int8", ALL, keeps_accuracy=True)
    repository.look_first()
    assert list_names(repository) == names
    repository = Repository(tmp_path, "int8", ALL)
    repository.look_first()
    assert list_names(repository) == ["model.int8.onnx", "model.onnx"]


@pytest.mark.parametrize("damaged", ["model.onnx", "model.int8.onnx"])
def test_a_file_that_states_no_accuracy_is_no_reason_to_leave_the_plain_one(tmp_path: Path, damaged: str) -> None:
    write_pair(tmp_path / "bands", 0.99, 0.99)
    (tmp_path / "bands" / "1" / damaged).write_bytes(b"no model")
    assert read_accuracy(tmp_path / "bands" / "1" / damaged) is None
    repository = Repository(tmp_path, "int8", ALL, keeps_accuracy=True)
    repository.look_first()
    assert list_names(repository) == ["model.onnx"]


def test_a_file_that_was_replaced_is_judged_anew(tmp_path: Path) -> None:
    write_pair(tmp_path / "bands", 0.9, 0.99)
    repository = Repository(tmp_path, "int8", ALL, keeps_accuracy=True)
    repository.look_first()
    assert list_names(repository) == ["model.onnx"]
    write_pair(tmp_path / "bands", 0.99, 0.99)
    for _ in range(2):
        repository.look()
    assert list_names(repository) == ["model.int8.onnx", "model.onnx"]


def test_a_precision_that_the_version_names_is_served_whatever_its_accuracy(tmp_path: Path) -> None:
    write_pair(tmp_path / "bands", 0.9, 0.99)
    (tmp_path / "bands" / "1" / "serving.toml").write_text('precision = "int8"')
    repository = Repository(tmp_path, "int8", ALL, keeps_accuracy=True)
    repository.look_first()
    assert list_names(repository) == ["model.int8.onnx", "model.onnx"]
