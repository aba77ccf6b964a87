"""The format of a model file: bytes and metadata strings <-> `ModelSpec`.

Enters: the bytes of a model file, or its ONNX `metadata_props`. Leaves: a checked `ModelSpec`, or metadata to write.
Does not know: how a model is run, trained or found on disk.
`train.export` writes files with these functions and `serve` reads them, so this module alone defines the format.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from serve.errors import CorruptModelFile, InvalidMetadata
from serve.model_file.familiarity import FAMILIARITY, FamiliaritySpec, read_familiarity
from serve.model_file.values import read_fraction, read_integer, read_mapping, read_text, read_texts

SCHEMA = 1
INPUT = "images"
"""Name of the only input, uint8 [N, H, W, C]."""
OUTPUT = "probabilities"
"""Name of the output, float32 [N, K], whose rows sum to 1."""
PREFIX = "inkling."
SEAL_KEY = PREFIX + "sha256"
# In the file, the seal is a protobuf entry: the key, tag 2 (0x12), and the length of a quoted digest (66).
_SEAL = re.compile(re.escape(SEAL_KEY).encode() + rb'\x12\x42"([0-9a-f]{64})"')
UNSEALED = "0" * 64
COLOUR_CHANNELS = {"grey": 1, "rgb": 3}
UNVERIFIED = "unverified"
"""What stands for the accuracy of a file that was measured on no image."""
MOST_SELF_TEST_VALUES = 2**26
"""Values of all inputs of a self-test, which are in memory at once, however small the file."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The only input, `images`: dtype [N, H, W, C]."""

    shape: tuple[int, int, int]
    """Height, width, channels."""
    dtype: str
    colour: str


@dataclass(frozen=True, slots=True)
class PrepareSpec:
    """The policy that prepares decoded images for the input: its name, version and parameters."""

    policy: str
    version: int
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Synthetic inputs, given by a seed, and the model's answers to them at export."""

    seed: int
    probabilities: tuple[tuple[float, ...], ...]
    """float [count][K]."""
    tolerance: float
    """The largest absolute difference of a probability, or of a familiarity, that passes."""
    familiarity: tuple[float, ...] | None = None
    """float [count], if the file has the output."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The facts about a model that its file holds."""

    name: str
    dataset: str
    labels: Mapping[str, tuple[str, ...]]
    input: InputSpec
    prepare: PrepareSpec
    precision: str
    test_accuracy: float
    test_count: int
    recipe: Mapping[str, Any]
    parameters: int
    created: datetime
    source_commit: str
    versions: Mapping[str, str]
    self_test: SelfTest
    familiarity: FamiliaritySpec | None = None
    """Of files with the output `familiarity`. Others lack the key."""

    @property
    def class_count(self) -> int:
        """K, the number of classes."""
        return len(next(iter(self.labels.values())))

    @property
    def accuracy(self) -> str:
        """The test accuracy for people, or UNVERIFIED."""
        return f"{self.test_accuracy:.4f}" if self.test_count else UNVERIFIED


def to_metadata(spec: ModelSpec) -> dict[str, str]:
    """The ONNX `metadata_props` of a spec, with a placeholder for the seal."""
    facts: dict[str, Any] = asdict(spec)
    facts["prepare"] = {"policy": spec.prepare.policy, "version": spec.prepare.version, **spec.prepare.parameters}
    facts |= {"schema": SCHEMA, "sha256": UNSEALED, "created": spec.created.isoformat()}
    if spec.familiarity is None:
        del facts[FAMILIARITY], facts["self_test"][FAMILIARITY]
    return {PREFIX + key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()}


def from_metadata(metadata: Mapping[str, str]) -> ModelSpec:
    """Read and check a spec. Raises InvalidMetadata, which names the key."""
    schema = _read(metadata, "schema", read_integer)
    if schema != SCHEMA:
        raise InvalidMetadata(f"{PREFIX}schema: this version reads schema {SCHEMA}, the file has schema {schema}")
    labels = _read(metadata, "labels", _labels)
    self_test = _read(metadata, "self_test", _self_test)
    class_count = len(next(iter(labels.values())))
    if any(len(row) != class_count for row in self_test.probabilities):
        raise InvalidMetadata(f"{PREFIX}self_test: wanted rows of {class_count} probabilities, one per label")
    input_spec = _read(metadata, "input", _input)
    if (values := len(self_test.probabilities) * math.prod(input_spec.shape)) > MOST_SELF_TEST_VALUES:
        raise InvalidMetadata(
            f"{PREFIX}self_test: wanted inputs of at most {MOST_SELF_TEST_VALUES:,} values in all, got {values:,}"
        )
    has_familiarity = PREFIX + FAMILIARITY in metadata
    if has_familiarity != (self_test.familiarity is not None):
        raise InvalidMetadata(
            f"{PREFIX}self_test: wanted familiarities if the file has {PREFIX}{FAMILIARITY}, else none"
        )
    return ModelSpec(
        name=_read(metadata, "name", read_text),
        dataset=_read(metadata, "dataset", read_text),
        labels=labels,
        input=input_spec,
        prepare=_read(metadata, "prepare", _prepare),
        precision=_read(metadata, "precision", read_text),
        test_accuracy=_read(metadata, "test_accuracy", read_fraction),
        test_count=_read(metadata, "test_count", read_integer),
        recipe=_read(metadata, "recipe", read_mapping),
        parameters=_read(metadata, "parameters", read_integer),
        created=_read(metadata, "created", datetime.fromisoformat),
        source_commit=_read(metadata, "source_commit", read_text),
        versions=_read(metadata, "versions", read_texts),
        self_test=self_test,
        familiarity=_read(metadata, FAMILIARITY, read_familiarity) if has_familiarity else None,
    )


def seal(data: bytes) -> bytes:
    """Write a file's SHA-256, computed with the digest as zeros, into the file. Raises InvalidMetadata."""
    start, end = _find_seal(data)
    return data[:start] + _digest(data, start, end).encode() + data[end:]


def check_seal(data: bytes) -> None:
    """Compare a file with its own digest before it is parsed. Raises CorruptModelFile, InvalidMetadata."""
    start, end = _find_seal(data)
    found = _digest(data, start, end)
    if found.encode() != data[start:end]:
        raise CorruptModelFile(
            f"the file's bytes do not match its {SEAL_KEY}: sealed as {data[start : start + 12].decode()}..., "
            f"found {found[:12]}...; it was changed or damaged after export"
        )


def read_seal(data: bytes) -> str:
    """The digest that a file was sealed with, in hexadecimal digits. Raises InvalidMetadata."""
    start, end = _find_seal(data)
    return data[start:end].decode()


def self_test_images(seed: int, count: int, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Synthetic inputs uint8 [count, H, W, C] from a seed: fine noise and coarse blocks, alternately.

    They come from SHAKE-256, because a library's random generator may change with a release.
    """
    height, width, channels = shape
    noise = hashlib.shake_256(seed.to_bytes(8, "big")).digest(count * height * width * channels)
    images = np.frombuffer(noise, np.uint8).reshape(count, *shape).copy()
    blocks = images[1::2, ::7, ::7].repeat(7, axis=1).repeat(7, axis=2)
    images[1::2] = blocks[:, :height, :width]
    return images


def _digest(data: bytes, start: int, end: int) -> str:
    """The SHA-256 of a file, with its own digest, from `start` to `end`, as zeros."""
    digest, view = hashlib.sha256(), memoryview(data)
    for part in (view[:start], UNSEALED.encode(), view[end:]):
        digest.update(part)
    return digest.hexdigest()


def _find_seal(data: bytes) -> tuple[int, int]:
    # Searched from the end, because metadata follow the weights, which are megabytes.
    found = _SEAL.match(data, max(0, data.rfind(SEAL_KEY.encode())))
    if found is None:
        raise InvalidMetadata(
            f"the file lacks the metadata key {SEAL_KEY}; wanted a whole file by train.export; train.convert makes one "
            "of any classifier"
        )
    return found.span(1)


def _read(metadata: Mapping[str, str], key: str, parse: Callable[[Any], T]) -> T:
    if PREFIX + key not in metadata:
        raise InvalidMetadata(f"the file lacks the metadata key {PREFIX}{key}")
    text = metadata[PREFIX + key]
    try:
        return parse(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidMetadata(f"{PREFIX}{key} is malformed: {text[:80]!r} ({error})") from error


def _labels(value: Any) -> Mapping[str, tuple[str, ...]]:
    if not all(isinstance(names, list) for names in read_mapping(value).values()):
        raise ValueError("wanted a list of labels per language")
    labels = {language: tuple(read_text(label) for label in names) for language, names in read_mapping(value).items()}
    sizes = {len(names) for names in labels.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError("wanted at least one language, and as many labels in each")
    return labels


def _input(value: Any) -> InputSpec:
    height, width, channels = (read_integer(side) for side in value["shape"])
    spec = InputSpec((height, width, channels), read_text(value["dtype"]), read_text(value["colour"]))
    if spec.dtype != "uint8" or COLOUR_CHANNELS.get(spec.colour) != channels or not height * width:
        raise ValueError(f"wanted uint8 [H, W, C] with colour and channels of {COLOUR_CHANNELS}")
    return spec


def _prepare(value: Any) -> PrepareSpec:
    parameters = dict(read_mapping(value))
    return PrepareSpec(read_text(parameters.pop("policy")), read_integer(parameters.pop("version")), parameters)


def _self_test(value: Any) -> SelfTest:
    rows = tuple(tuple(read_fraction(p) for p in row) for row in value["probabilities"])
    if not rows:
        raise ValueError("wanted at least one row of probabilities")
    shares = value.get(FAMILIARITY)
    if shares is not None and len(shares) != len(rows):
        raise ValueError(f"wanted {len(rows)} familiarities, one for each row")
    familiarity = None if shares is None else tuple(map(read_fraction, shares))
    return SelfTest(read_integer(value["seed"]), rows, read_fraction(value["tolerance"]), familiarity)
