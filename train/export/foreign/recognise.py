"""A path -> the trained model that lies there, recognised by its content, whatever its name.

Enters: a file or a folder. Leaves: a `Source`, or Unconvertible with what to do instead. Does not know: images, labels.
"""

import zipfile
from pathlib import Path

from train.export.foreign.from_onnx import from_onnx
from train.export.foreign.source import Source, Unconvertible

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
WANTED = "wanted a model of Keras (.keras, .h5), a SavedModel folder, or an ONNX file"
PYTORCH = (
    "a PyTorch file, which may hold weights without their net; load it in Python, call eval(), and write it with "
    'torch.onnx.export(net, example, "model.onnx", dynamic_axes={"images": {0: "batch"}}, input_names=["images"])'
)
PICKLE = "a pickle, which runs code when it is read; write a scikit-learn model with skl2onnx.to_onnx instead"


def open_source(path: Path) -> Source:
    """Read a trained model. Raises Unconvertible and OSError."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            from train.export.foreign.from_tensorflow import from_saved_model  # not above: it imports TensorFlow

            return from_saved_model(path)
        files = ", ".join(sorted(each.name for each in path.iterdir())[:5]) or "nothing"
        raise Unconvertible(f"{WANTED}; the folder {path} has no saved_model.pb: found {files}")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(HDF5):
        return _from_keras(path, ".h5")
    if start.startswith(ZIP):
        return _from_zip(path)
    if found := _name_other(path, start):
        raise Unconvertible(f"{WANTED}; {path} is {found}")
    return from_onnx(path)


def _from_zip(path: Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise Unconvertible(f"{WANTED}; {path} is a damaged archive") from error
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        return _from_keras(path, ".keras")
    found = PYTORCH if any(name.endswith("data.pkl") for name in names) else "another archive"
    raise Unconvertible(f"{WANTED}; {path} is {found}")


def _from_keras(path: Path, suffix: str) -> Source:
    from train.export.foreign.from_tensorflow import from_keras_file  # not above: it imports TensorFlow

    return from_keras_file(path, suffix)


def _name_other(path: Path, start: bytes) -> str:
    """What a file is that other programs write; empty if it may be ONNX."""
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite file; convert the model that it was made from"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return PICKLE
    if start[:1] == b"{" or path.suffix == ".safetensors":
        return "a file of weights without their net"
    return "empty" if not start else ""
