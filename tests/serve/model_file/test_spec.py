"""serve.model_file.spec: a spec is read as it was written; missing, malformed and damaged data are named."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from serve.errors import CorruptModelFile, InvalidMetadata
from serve.model_file.spec import (
    PREFIX,
    SCHEMA,
    SEAL_KEY,
    UNSEALED,
    InputSpec,
    PrepareSpec,
    check_seal,
    from_metadata,
    seal,
    self_test_images,
    to_metadata,
)
from tests.support import GREY, make_graph, make_spec, write_tiny_model

METADATA = to_metadata(make_spec())
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a tiny model file: 1.7 kB of weights and all metadata."""
    folder = tmp_path_factory.mktemp("sealed")
    return write_tiny_model(folder, input=GREY, prepare=PrepareSpec("digit", 1, {"box": 8})).read_bytes()


def damage(key: str, text: str) -> dict[str, str]:
    """Metadata in which one key has another value."""
    return {**METADATA, PREFIX + key: text}


def test_a_spec_is_read_as_it_was_written() -> None:
    spec = make_spec(
        input=GREY,
        prepare=PrepareSpec("digit", 1, {"box": 20}),
        recipe={"epochs": 20, "optimizer": {"name": "adam", "rates": [1e-3, 1e-4]}, "augmentation": None},
    )
    assert from_metadata(to_metadata(spec)) == spec


def test_every_value_is_json_under_the_prefix_without_escaped_letters() -> None:
    assert all(key.startswith(PREFIX) for key in METADATA)
    assert {key: json.loads(value) for key, value in METADATA.items()}[PREFIX + "schema"] == SCHEMA
    assert "верх" in METADATA[PREFIX + "labels"]


def test_the_number_of_classes_is_that_of_the_labels() -> None:
    assert make_spec().class_count == 3


@pytest.mark.parametrize("key", sorted(set(METADATA) - {SEAL_KEY}))
def test_a_missing_key_is_named(key: str) -> None:
    without = {name: value for name, value in METADATA.items() if name != key}
    with pytest.raises(InvalidMetadata, match=f"the file lacks the metadata key {key}$"):
        from_metadata(without)


@pytest.mark.parametrize("key", sorted(set(METADATA) - {SEAL_KEY}))
@pytest.mark.parametrize("text", ["", "{", "null", DEEP], ids=["empty", "no-json", "null", "too-deep"])
def test_a_value_that_is_not_the_expected_json_is_named(key: str, text: str) -> None:
    with pytest.raises(InvalidMetadata, match=rf"{key} is malformed: "):
        from_metadata({**METADATA, key: text})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", True),
        ("name", ""),
        ("name", 5),
        ("dataset", []),
        ("labels", {}),
        ("labels", ["top", "middle", "bottom"]),
        ("labels", {"en": []}),
        ("labels", {"en": "abc"}),
        ("labels", {"en": ["top", "middle", ""]}),
        ("labels", {"en": ["top", "middle", "bottom"], "ru": ["верх", "середина"]}),
        ("input", {"shape": [12, 12], "dtype": "uint8", "colour": "grey"}),
        ("input", {"shape": [12, 12, 3], "dtype": "float32", "colour": "rgb"}),
        ("input", {"shape": [12, 12, 1], "dtype": "uint8", "colour": "rgb"}),
        ("input", {"shape": [12, 12, 3], "dtype": "uint8", "colour": "infrared"}),
        ("input", {"shape": [0, 12, 3], "dtype": "uint8", "colour": "rgb"}),
        ("input", {"shape": [12, 12, 3], "colour": "rgb"}),
        ("prepare", "photo/1"),
        ("prepare", {"policy": "photo"}),
        ("prepare", {"policy": "photo", "version": "1"}),
        ("precision", None),
        ("test_accuracy", 1.01),
        ("test_accuracy", "0.99"),
        ("test_accuracy", float("nan")),
        ("test_count", -1),
        ("test_count", 10_000.0),
        ("test_count", 2**31),
        ("recipe", "cnn"),
        ("parameters", None),
        ("created", "yesterday"),
        ("created", 1_767_323_045),
        ("source_commit", ""),
        ("versions", {"keras": 3}),
        ("self_test", {"seed": 0, "probabilities": [], "tolerance": 1e-3}),
        ("self_test", {"seed": 0, "probabilities": [[0.5, 0.5, float("nan")]], "tolerance": 1e-3}),
        ("self_test", {"seed": 2**64, "probabilities": [[0.5, 0.25, 0.25]], "tolerance": 1e-3}),
        ("self_test", {"seed": 0, "probabilities": [[0.5, 0.25, 0.25]]}),
    ],
)
def test_a_malformed_value_is_named_and_shown(key: str, value: object) -> None:
    with pytest.raises(InvalidMetadata) as caught:
        from_metadata(damage(key, json.dumps(value)))
    assert str(caught.value).startswith(f"{PREFIX}{key} is malformed: {json.dumps(value)[:10]!r}"[:-1])


def test_another_schema_is_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidMetadata, match=f"reads schema {SCHEMA}, the file has schema {SCHEMA + 1}"):
        from_metadata(damage("schema", str(SCHEMA + 1)))


def test_a_self_test_of_other_classes_than_the_labels_is_refused() -> None:
    spec = make_spec()
    test = replace(spec.self_test, probabilities=((0.5, 0.5),))
    with pytest.raises(InvalidMetadata, match=r"inkling\.self_test: wanted rows of 3 probabilities"):
        from_metadata(to_metadata(replace(spec, self_test=test)))


@pytest.mark.parametrize(("side", "rows", "is_refused"), [(2364, 4, False), (2365, 4, True), (20_000, 1, True)])
def test_a_self_test_of_more_inputs_than_fit_into_memory_is_refused(side: int, rows: int, is_refused: bool) -> None:
    """A kilobyte of file would otherwise take gigabytes when it is loaded."""
    spec = make_spec(input=InputSpec((side, side, 3), "uint8", "rgb"))
    metadata = to_metadata(replace(spec, self_test=replace(spec.self_test, probabilities=((0.5, 0.25, 0.25),) * rows)))
    if is_refused:
        with pytest.raises(InvalidMetadata, match=r"inkling\.self_test: wanted inputs of at most 67,108,864 values"):
            from_metadata(metadata)
    else:
        assert from_metadata(metadata).input.shape == (side, side, 3)


def test_a_sealed_file_passes_and_sealing_again_changes_nothing(sealed: bytes) -> None:
    check_seal(sealed)
    assert seal(sealed) == sealed


def test_the_seal_is_the_sha256_of_the_file_with_its_digest_zeroed(sealed: bytes) -> None:
    (digest,) = [each.value for each in onnx.load_from_string(sealed).metadata_props if each.key == SEAL_KEY]
    unsealed = sealed.replace(digest.strip('"').encode(), UNSEALED.encode())
    assert hashlib.sha256(unsealed).hexdigest() == json.loads(digest)


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_is_detected_at_every_byte(sealed: bytes, bit: int) -> None:
    undetected = []
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1 << bit
        try:
            check_seal(bytes(damaged))
        except (CorruptModelFile, InvalidMetadata):
            continue
        undetected.append(position)
    assert undetected == []


def test_a_flipped_bit_in_the_weights_is_called_damage(sealed: bytes) -> None:
    weights = onnx.load_from_string(sealed).graph.initializer[0].raw_data
    damaged = bytearray(sealed)
    damaged[sealed.index(weights) + len(weights) // 2] ^= 1
    with pytest.raises(CorruptModelFile, match=r"do not match its inkling\.sha256: .* changed or damaged after export"):
        check_seal(bytes(damaged))


def test_an_extra_byte_at_either_end_is_detected(sealed: bytes) -> None:
    for longer in (sealed + b"\0", b"\0" + sealed):
        with pytest.raises(CorruptModelFile):
            check_seal(longer)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_copied_in_part_is_refused_as_incomplete(sealed: bytes, share: float) -> None:
    with pytest.raises(InvalidMetadata, match="wanted a whole file"):
        check_seal(sealed[: int(len(sealed) * share)])


@pytest.mark.parametrize("data", [b"", b"no model at all", make_graph(GREY.shape).SerializeToString()])
def test_a_file_without_a_seal_is_refused_with_the_keys_name(data: bytes) -> None:
    with pytest.raises(InvalidMetadata, match=r"lacks the metadata key inkling\.sha256; wanted a whole file by"):
        check_seal(data)


@pytest.mark.parametrize(
    ("seed", "count", "shape", "digest"),
    [
        (1, 4, (28, 28, 1), "3d6f042bdaf009944fb558aa4eea690761479f561ee006d8af88bad7713b7d7c"),
        (1, 4, (32, 32, 3), "1ea3ba9a727429e5cb02b874ec551b91abb7c1c73968b3e049fd3dc05ba43e62"),
        (2**31 - 1, 3, (12, 30, 3), "b670d47744405e1ed4aa15ee60f582c4f2d7ad91f03c125c775646bf99e426a7"),
    ],
)
def test_the_inputs_of_a_self_test_never_change(
    seed: int, count: int, shape: tuple[int, int, int], digest: str
) -> None:
    """Old model files hold answers to exactly these pixels."""
    images = self_test_images(seed, count, shape)
    assert images.shape == (count, *shape)
    assert images.dtype == np.uint8
    assert hashlib.sha256(images.tobytes()).hexdigest() == digest


def test_the_inputs_of_a_self_test_are_fine_and_coarse_alternately() -> None:
    images = self_test_images(1, 4, (28, 28, 1)).astype(int)
    for index, image in enumerate(images):
        changes = np.abs(np.diff(image, axis=0)).mean()
        assert (changes < 20) == (index % 2 == 1)


def test_another_seed_gives_other_inputs() -> None:
    assert (self_test_images(1, 2, GREY.shape) != self_test_images(2, 2, GREY.shape)).mean() > 0.9
