"""An ONNX graph and facts about it -> a sealed model file that was read back; a model file -> its probabilities.

Enters: an onnx.ModelProto and a `ModelSpec`, or a path. Leaves: a whole file or none; the bytes and facts of a file;
probabilities. Does not know: Keras, or where a graph came from.
"""

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from serve.errors import ModelFileError, SelfTestFailed
from serve.images.policies.find import find_policy
from serve.model_file.spec import ModelSpec, SelfTest, from_metadata, seal, self_test_images, to_metadata
from serve.model_file.whole import read_model_bytes
from train.data.datasets import Dataset, Images, choose_batch_size

Probabilities = npt.NDArray[np.float32]

MOST_SHOWN = 300  # characters of a fact in an error
SELF_TEST_SEED = 1
SELF_TEST_COUNT = 4
SELF_TEST_TOLERANCE = 5e-3  # of a probability: a GPU rounds the inputs of products to the 10 bits of TF32


def write_model_file(onnx_model: onnx.ModelProto, spec: ModelSpec, folder: Path, name: str = "model.onnx") -> Path:
    """Write `folder`/`name` with metadata and seal. It has a temporary name until it was read back. Returns its path.

    Raises onnx.checker.ValidationError for an invalid graph, and ModelFileError if the file does not read back as
    `spec` or fails its self-test. Then no file is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / name, folder / f".{name}.{os.getpid()}.partial"
    try:
        partial.write_bytes(seal_model(onnx_model, spec))
        check_file(partial, spec)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def seal_model(onnx_model: onnx.ModelProto, spec: ModelSpec) -> bytes:
    """The bytes of a model file: the graph, `spec` as its metadata, and the seal."""
    complete = onnx.ModelProto()
    complete.CopyFrom(onnx_model)
    onnx.helper.set_model_props(complete, to_metadata(spec))
    onnx.checker.check_model(complete, full_check=True)
    return seal(complete.SerializeToString())


def read_model_file(path: Path) -> tuple[bytes, ModelSpec]:
    """Read and check a model file: its bytes and its metadata. Raises ModelFileError and OSError."""
    data = read_model_bytes(path)
    return data, from_metadata(open_session(data).get_modelmeta().custom_metadata_map)


def check_file(path: Path, spec: ModelSpec) -> None:
    """Check a model file as a server does: seal, metadata, preparation, self-test. Raises ModelFileError."""
    data, found = read_model_file(path)
    find_policy(found.prepare, found.input)
    if found != spec:
        name = next(each.name for each in fields(spec) if getattr(found, each.name) != getattr(spec, each.name))
        wanted, got = (repr(getattr(each, name))[:MOST_SHOWN] for each in (spec, found))
        raise ModelFileError(f"the metadata's {name} did not read back as written: wanted {wanted}, found {got}")
    test = spec.self_test
    images = self_test_images(test.seed, len(test.probabilities), spec.input.shape)
    difference = float(np.abs(run_onnx(data, images) - np.array(test.probabilities)).max())
    if not difference <= test.tolerance:
        raise SelfTestFailed(f"wanted the probabilities within {test.tolerance}, found a difference of {difference}")


def measure_self_test(onnx_model: onnx.ModelProto, shape: tuple[int, int, int]) -> SelfTest:
    """The answers of a graph to synthetic images uint8 [N, *shape], which every server compares when it loads it."""
    images = self_test_images(SELF_TEST_SEED, SELF_TEST_COUNT, shape)
    rows = run_onnx(onnx_model.SerializeToString(), images)
    return SelfTest(SELF_TEST_SEED, tuple(tuple(float(p) for p in row) for row in rows.clip(0, 1)), SELF_TEST_TOLERANCE)


def open_session(data: bytes) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session on the CPU for the bytes of a model."""
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def run_onnx(data: bytes, images: Images) -> Probabilities:
    """Run the bytes of a model on images uint8 [N, H, W, C]: probabilities float32 [N, K]."""
    session, batch_size = open_session(data), choose_batch_size(images)
    batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    return np.concatenate([session.run(["probabilities"], {"images": batch})[0] for batch in batches])


def run_file(path: Path, dataset: Dataset) -> tuple[ModelSpec, Probabilities]:
    """Run a model file on a test set: its metadata and probabilities float32 [N, K]. Raises ModelFileError."""
    data, spec = read_model_file(path)
    if spec.dataset != dataset.name:
        raise ModelFileError(f"{path}: wanted a model of {dataset.name}, found one of {spec.dataset}")
    return spec, run_onnx(data, dataset.test.images)


def ask_teacher(path: Path, dataset: Dataset) -> Probabilities:
    """The probabilities float32 [N, K] of a model file for the training images. Raises ModelFileError.

    The file's classes have to be those of the dataset, in the same order.
    """
    data, spec = read_model_file(path)
    if spec.labels["en"] != dataset.labels["en"] or spec.input.shape != dataset.shape:
        raise ModelFileError(
            f"{path}: wanted a model of the classes and the image size of {dataset.name}, found one of {spec.dataset}"
        )
    return run_onnx(data, dataset.train.images)
