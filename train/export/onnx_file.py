"""An ONNX graph and facts about it -> a sealed model file that was read back; a model file -> its probabilities.

Enters: an onnx.ModelProto and a `ModelSpec`, or a path. Leaves: a whole file or none; the bytes and facts of a file;
probabilities. Does not know: Keras, or where a graph came from.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from serve.errors import ModelFileError, SelfTestFailed
from serve.images.policies.find import find_policy
from serve.model_file.familiarity import FAMILIARITY
from serve.model_file.signature import check_signature
from serve.model_file.spec import (
    INPUT,
    OUTPUT,
    ModelSpec,
    SelfTest,
    from_metadata,
    seal,
    self_test_images,
    to_metadata,
)
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
    """Read and check a model file: its bytes and its metadata. Raises OSError, and ModelFileError with the path."""
    try:
        data = read_model_bytes(path)
        return data, from_metadata(open_session(data).get_modelmeta().custom_metadata_map)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def check_file(path: Path, spec: ModelSpec) -> None:
    """Check a model file as a server does: seal, metadata, preparation, self-test. Raises ModelFileError."""
    data, found = read_model_file(path)
    find_policy(found.prepare, found.input)
    if found != spec:
        name = next(each.name for each in fields(spec) if getattr(found, each.name) != getattr(spec, each.name))
        wanted, got = (repr(getattr(each, name))[:MOST_SHOWN] for each in (spec, found))
        raise ModelFileError(f"the metadata's {name} did not read back as written: wanted {wanted}, found {got}")
    check_signature(*describe_signature(data), spec)
    test = spec.self_test
    images = self_test_images(test.seed, len(test.probabilities), spec.input.shape)
    answers = {OUTPUT: test.probabilities} | ({FAMILIARITY: test.familiarity} if test.familiarity is not None else {})
    for name, values in zip(answers, next(run_outputs(data, images, list(answers))), strict=True):
        difference = float(np.abs(values - np.array(answers[name])).max())
        if not difference <= test.tolerance:
            raise SelfTestFailed(f"wanted the {name} within {test.tolerance}, found a difference of {difference}")


def measure_self_test(onnx_model: onnx.ModelProto, shape: tuple[int, int, int]) -> SelfTest:
    """The answers of a graph to synthetic images uint8 [N, *shape], which every server compares when it loads it."""
    images = self_test_images(SELF_TEST_SEED, SELF_TEST_COUNT, shape)
    names = [output.name for output in onnx_model.graph.output if output.name in (OUTPUT, FAMILIARITY)]
    found = dict(zip(names, next(run_outputs(onnx_model.SerializeToString(), images, names)), strict=True))
    rows = tuple(tuple(float(p) for p in row) for row in found[OUTPUT].clip(0, 1))
    familiarity = tuple(map(float, found[FAMILIARITY])) if FAMILIARITY in found else None
    return SelfTest(SELF_TEST_SEED, rows, SELF_TEST_TOLERANCE, familiarity)


def describe_signature(data: bytes) -> tuple[list[str], list[str]]:
    """The inputs and the outputs of the bytes of a model: name, type and shape, with N for what it leaves open."""

    def describe(node: onnxruntime.NodeArg) -> str:
        sides = (str(side) if isinstance(side, int) else "N" for side in node.shape)
        return f"{node.name} {node.type} [{', '.join(sides)}]"

    session = open_session(data)
    return [describe(each) for each in session.get_inputs()], [describe(each) for each in session.get_outputs()]


def open_session(data: bytes) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session on the CPU for the bytes of a model."""
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def run_onnx(data: bytes, images: Images) -> Probabilities:
    """Run the bytes of a model on images uint8 [N, H, W, C]: probabilities float32 [N, K]."""
    return np.concatenate([batch for (batch,) in run_outputs(data, images, [OUTPUT])])


def run_outputs(data: bytes, images: Images, names: Sequence[str]) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Run the bytes of a model on images uint8 [N, H, W, C], batch by batch: the values of each name."""
    session, batch_size = open_session(data), choose_batch_size(images)
    for start in range(0, len(images), batch_size):
        yield session.run(list(names), {INPUT: images[start : start + batch_size]})


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
    return run_onnx(_read_teacher(path, dataset), dataset.train.images)


def open_teacher(path: Path, dataset: Dataset) -> Callable[[Images], Probabilities]:
    """What answers images uint8 [N, H, W, C] with a file's probabilities float32 [N, K]. Raises ModelFileError."""
    session = open_session(_read_teacher(path, dataset))
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def _read_teacher(path: Path, dataset: Dataset) -> bytes:
    data, spec = read_model_file(path)
    if spec.labels["en"] != dataset.labels["en"] or spec.input.shape != dataset.shape:
        raise ModelFileError(
            f"{path}: wanted a model of the classes and the image size of {dataset.name}, found one of {spec.dataset}"
        )
    return data
