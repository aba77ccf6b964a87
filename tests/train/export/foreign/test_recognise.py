"""`train.export.foreign.recognise`: a model is known by its content; other files are refused with the way out."""

import pickle
import zipfile
from pathlib import Path

import pytest

from train.export.foreign.recognise import open_source
from train.export.foreign.source import Unconvertible


def write_zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "weights.bin").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: write_zip(path, "net/data.pkl"), r"a PyTorch file.*torch\.onnx\.export"),
        (lambda path: write_zip(path, "a.txt"), "is another archive"),
        (lambda path: path.write_bytes(b"PK\3\4damaged"), "is a damaged archive"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), r"a pickle, .*skl2onnx\.to_onnx"),
        (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3"), "a TensorFlow Lite file"),
        (lambda path: path.write_bytes(b'{"a": 1}'), "a file of weights without their net"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (make_folder, r"has no saved_model\.pb: found weights\.bin"),
    ],
    ids=["PyTorch", "archive", "damaged archive", "pickle", "TensorFlow Lite", "weights", "empty", "folder"],
)
def test_what_is_no_model_is_refused_with_what_it_is(make, sentence: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(Unconvertible, match=sentence):
        open_source(path)


def test_a_path_without_a_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "gone.onnx")
