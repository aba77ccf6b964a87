"""`serve.model_file.familiarity`: what a file says of its second output is read as written, or refused by key."""

import json
from dataclasses import asdict, replace

import pytest

from serve.errors import InvalidMetadata
from serve.model_file.signature import check_signature
from serve.model_file.spec import PREFIX, SelfTest, from_metadata, to_metadata
from tests.support import FAMILIAR, make_spec

TEST = SelfTest(0, ((0.5, 0.25, 0.25), (0.1, 0.1, 0.8)), 1e-3, (0.0, 0.7))
SPEC = make_spec(familiarity=FAMILIAR, self_test=TEST)
KEY = PREFIX + "familiarity"
IMAGES, PROBABILITIES = "images tensor(uint8) [N, 12, 12, 3]", "probabilities tensor(float) [N, 3]"
FAMILIARITY = "familiarity tensor(float) [N]"


def test_a_familiarity_is_read_as_it_was_written() -> None:
    assert from_metadata(to_metadata(SPEC)) == SPEC


def test_a_file_without_familiarity_has_no_trace_of_it() -> None:
    metadata = to_metadata(make_spec())
    assert KEY not in metadata
    assert "familiarity" not in metadata[PREFIX + "self_test"]
    assert from_metadata(metadata).familiarity is None


@pytest.mark.parametrize(
    "changes",
    [
        {"method": ""},
        {"held_out_count": -1},
        {"threshold": 2},
        {"turned_away": float("nan")},
        {"strangers": []},
        {"strangers": {"letters": {"roc_auc": 1.5, "caught": 0}}},
        {"strangers": {"letters": {"roc_auc": 1}}},
    ],
    ids=str,
)
def test_a_malformed_familiarity_is_refused_with_its_key(changes: dict[str, object]) -> None:
    metadata = to_metadata(SPEC) | {KEY: json.dumps(asdict(FAMILIAR) | changes)}
    with pytest.raises(InvalidMetadata, match=r"inkling\.familiarity is malformed"):
        from_metadata(metadata)


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 1.5), (0.5, float("inf"))])
def test_a_self_test_with_other_familiarities_than_rows_or_shares_is_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(InvalidMetadata, match=r"inkling\.self_test is malformed"):
        from_metadata(to_metadata(replace(SPEC, self_test=replace(TEST, familiarity=shares))))


def test_a_self_test_without_familiarity_is_refused_beside_the_key() -> None:
    with pytest.raises(InvalidMetadata, match=r"wanted familiarities if the file has inkling\.familiarity"):
        from_metadata(to_metadata(replace(SPEC, self_test=replace(TEST, familiarity=None))))
    with pytest.raises(InvalidMetadata, match=r"inkling\.self_test: wanted familiarities"):
        from_metadata({key: text for key, text in to_metadata(SPEC).items() if key != KEY})


@pytest.mark.parametrize(
    ("outputs", "has_key", "reason"),
    [
        ([PROBABILITIES, FAMILIARITY], True, ""),
        ([FAMILIARITY, PROBABILITIES], True, ""),
        ([PROBABILITIES, "features tensor(float) [N, 128]"], False, ""),
        ([PROBABILITIES, FAMILIARITY], False, "the file lacks the key"),
        ([PROBABILITIES], True, "wanted an output familiarity tensor.float. .N. with the key inkling.familiarity"),
        ([PROBABILITIES, "familiarity tensor(float) [N, 1]"], True, "the graph has"),
        ([PROBABILITIES, "familiarity tensor(float16) [N]"], True, "the graph has"),
        ([PROBABILITIES, "familiarity tensor(float) [4]"], True, "the graph has"),
    ],
)
def test_the_output_and_its_key_come_together_with_the_right_type(
    outputs: list[str], has_key: bool, reason: str
) -> None:
    spec = SPEC if has_key else make_spec()
    if not reason:
        check_signature([IMAGES], outputs, spec)
        return
    with pytest.raises(InvalidMetadata, match=reason):
        check_signature([IMAGES], outputs, spec)
