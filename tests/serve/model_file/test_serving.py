"""serve.model_file.serving: a version's own settings, what is refused, and when a change of them is seen."""

from dataclasses import replace
from pathlib import Path

import pytest

from serve.errors import ModelFileError
from serve.model_file.repository import Repository
from serve.model_file.scan import scan
from serve.model_file.serving import FILE_NAME, SERVER_SETTINGS, ServingSettings, read_serving

WHOLE = 'precision = "int8"\nmax_batch = 4\nmax_pending = 8\nmax_pending_bytes = 1024\nmax_queue_delay_us = 0\n'


def put(folder: Path, text: str, version: int = 1) -> Path:
    """A file of settings in a version's folder, beside an empty model file."""
    place = folder / "bands" / str(version)
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").touch()
    (place / FILE_NAME).write_text(text)
    return place / FILE_NAME


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", SERVER_SETTINGS),
        ("max_batch = 4", ServingSettings(max_batch=4)),
        (WHOLE, ServingSettings("int8", 4, 8, 1024, 0)),
    ],
)
def test_a_file_gives_its_settings_and_leaves_the_others(tmp_path: Path, text: str, settings: ServingSettings) -> None:
    assert read_serving(put(tmp_path, text)) == settings


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max_bach = 4", "unknown keys: max_bach; wanted some of precision, max_batch"),
        ("max_batch = 0", "max_batch: wanted a whole number from 1 to 65536; got 0"),
        ("max_batch = true", "max_batch: wanted a whole number from 1 to 65536; got True"),
        ("max_batch = '4'", "max_batch: wanted a whole number from 1 to 65536; got '4'"),
        ("precision = 'int4'", "precision: wanted one of float32, float16, int8; got 'int4'"),
        ("precision = 8", "precision: wanted one of float32, float16, int8; got 8"),
        ("max_batch 4", "wanted TOML: "),
        ("max_batch = " + "[" * 20_000, "wanted TOML, got lists or tables in each other, too deep"),
        (
            "max_batch = 0x" + "f" * 5_000,
            "max_batch: wanted a whole number from 1 to 65536; got a value of type int, too",
        ),
        (
            "precision" + ".a" * 20_000 + " = 1",
            "precision: wanted one of float32, float16, int8; got a value of type dict, too",
        ),
        ("#" * 70_000, "wanted at most 65,536 bytes, got more"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_key(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_serving(put(tmp_path, text))
    assert str(caught.value).startswith(f"{FILE_NAME}: {reason}")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_serving(tmp_path)


def test_its_precision_wins_over_that_of_the_server_for_this_version_alone(tmp_path: Path) -> None:
    put(tmp_path, 'precision = "int8"', version=2)
    put(tmp_path, "", version=1)
    for version in (1, 2):
        (tmp_path / f"bands/{version}/model.int8.onnx").touch()
    files = scan(tmp_path, "float32").models["bands"]
    assert [(file.version, file.path.name) for file in files] == [
        (2, "model.int8.onnx"),
        (2, "model.onnx"),
        (1, "model.onnx"),
    ]


def test_a_wrong_file_costs_its_own_version_alone(tmp_path: Path) -> None:
    put(tmp_path, "nonsense", version=2)
    put(tmp_path, "max_batch = 4", version=1)
    second, first = scan(tmp_path, "float32").models["bands"]
    assert (second.serving, second.problem.partition(":")[0]) == (None, FILE_NAME)
    assert (first.serving, first.problem) == (ServingSettings(max_batch=4), "")


def test_a_change_is_a_new_state_once_two_looks_agree(tmp_path: Path) -> None:
    put(tmp_path, "max_batch = 4")
    repository = Repository(tmp_path, "float32", live_versions=1)
    repository.look_first()
    (before,) = repository.models["bands"]
    put(tmp_path, "max_batch = 5")
    repository.look()
    assert repository.models["bands"] == (before,)
    repository.look()
    assert repository.models["bands"] == (replace(before, serving=ServingSettings(max_batch=5)),)
