"""Mutated model files, loaded as a server does: each loads and answers, or is refused with a ModelFileError, soon."""

import json

import onnx
import pytest
from hypothesis import strategies as st

from serve.errors import InvalidMetadata
from serve.model_file.spec import PREFIX, SEAL_KEY, seal
from tests.fuzz.budget import BEFORE, begin, count_cases, count_first, try_cases
from tests.fuzz.child import child
from tests.fuzz.corpus import model_files, policies, sized_model
from tests.fuzz.mutations import ODD_TEXTS, Draw, Seeds, change_bytes, change_message, mutated_json

# hypothesis would rather print each case, which is a file or a message.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

FEW = 300
MOST_GROWTH = 1.1
"""Resident memory after all cases over that before them."""
NO_FILES = st.sampled_from([b"", b"\0" * 4, b"\xff" * 4, b"text", b"\0" * 5184])
"""Values of fields of bytes: weights, and texts of ONNX that are no UTF-8."""

_SIDES = st.sampled_from([1, 28, 2_000, 4_096, 20_000, 65_535])
_ROWS = st.sampled_from([1, 4, 5_000])


@st.composite
def mutated_models(draw: Draw, seeds: Seeds[bytes]) -> list[bytes]:
    """One of the files, changed more and more in its facts or in its graph, and in the end in its bytes.

    All but some of the last are sealed again, for the seal would refuse them before anything else looks at them.
    """
    data = draw(st.sampled_from(seeds)) if draw(st.integers(0, 15)) else sized_model(draw(_SIDES), draw(_ROWS))
    model, changed = onnx.load_from_string(data), []
    for _ in range(draw(st.integers(1, 3))):
        (_change_fact if draw(st.booleans()) else _change_graph)(draw, model)
        changed.append(_seal(model.SerializePartialToString()))
    damaged = change_bytes(draw, draw(st.sampled_from([data, *changed])), seeds)
    return [data, *changed, damaged if draw(st.integers(0, 4)) == 0 else _seal(damaged)]


def _change_fact(draw: Draw, model: onnx.ModelProto) -> None:
    """One of the texts under `inkling.`, which are JSON."""
    facts = [fact for fact in model.metadata_props if fact.key.startswith(PREFIX) and fact.key != SEAL_KEY]
    if not facts:
        return
    fact = draw(st.sampled_from(facts))
    kind = draw(st.sampled_from(["value", "value", "value", "value", "key", "remove", "again"]))
    if kind == "value" and _is_json(fact.value):
        fact.value = draw(mutated_json(fact.value))
    elif kind == "key":
        fact.key = draw(st.sampled_from([PREFIX + text for text in ODD_TEXTS]))
    elif kind == "remove":
        model.metadata_props.remove(fact)
    else:
        model.metadata_props.add(key=fact.key, value=fact.value)


def _change_graph(draw: Draw, model: onnx.ModelProto) -> None:
    """A field of the graph, of one of its nodes or of its weights; now and then one of the model itself."""
    graph = model.graph
    near = [graph, model, *graph.node, *graph.initializer, *graph.input, *graph.output, *model.opset_import]
    change_message(draw, draw(st.sampled_from(near)), NO_FILES)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _seal(data: bytes) -> bytes:
    try:
        return seal(data)
    except InvalidMetadata:  # no place for a seal is left
        return data


def test_the_corpus_has_a_model_file_of_every_policy() -> None:
    assert set(model_files()) == {named.name for named in policies()}


@pytest.mark.slow
def test_mutated_model_files_load_or_are_refused() -> None:
    cases, tally, strategy = count_cases("models", FEW), begin("models"), mutated_models(Seeds(model_files().values()))
    with child("models", tally) as loader:
        for model in model_files().values():
            loader.attempt(model)
        assert tally.outcomes["loaded"] == len(model_files())
        try_cases(count_first(cases, FEW // 5), strategy, loader.attempt, first=BEFORE)
        tally.bytes_before = loader.measure()
        try_cases(cases, strategy, loader.attempt, first=1)
        tally.good, tally.bytes_after = tally.outcomes["loaded"], loader.measure()
    assert tally.outcomes["loaded"] < tally.cases
    assert tally.growth <= MOST_GROWTH
