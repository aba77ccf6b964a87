"""serve.api.inkling_v1: what a caller may ask for by name or number: languages, models, versions, how many labels."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.api.options import find_labels
from serve.client.client import Client
from serve.errors import CallError
from serve.pb import classifier_pb2 as pb
from tests.support import Png, RunningServer, write_tiny_model


@pytest.mark.parametrize(("language", "label"), [("", "top"), ("en", "top"), ("ru", "верх"), ("ru-RU", "верх")])
def test_labels_come_in_the_language_asked_for(client: Client, png: Png, language: str, label: str) -> None:
    assert client.classify(png(0), model="bands", language=language).best.label == label


@pytest.mark.parametrize(
    ("language", "label"), [("RU", "верх"), ("Ru-ru", "верх"), ("EN-us", "top"), ("rU-Cyrl-RU", "верх")]
)
def test_a_language_is_found_in_any_case(client: Client, png: Png, language: str, label: str) -> None:
    """RFC 4647 compares tags so."""
    assert client.classify(png(0), model="bands", language=language).best.label == label


def test_labels_of_a_file_are_found_however_it_writes_their_language() -> None:
    labels = {"en": ("top",), "pt-BR": ("topo",)}
    assert find_labels(labels, pb.ClassifyOptions(language_code="PT-br")) == ("topo",)


def test_an_unknown_language_is_refused_with_the_known_ones(client: Client, png: Png) -> None:
    with pytest.raises(CallError, match="wanted one of en, ru; got 'fr'") as caught:
        client.classify(png(0), model="bands", language="fr")
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "OPTION_INVALID")


@pytest.mark.parametrize("tag", ["x" * 1_000_000, "a-" * 500_000, "щ" * 100_000], ids=["long", "deep", "wide"])
def test_a_language_of_any_length_is_refused_at_once_and_in_few_words(client: Client, png: Png, tag: str) -> None:
    """It would be shortened a subtag at a time, and come back in a header that no client takes."""
    with pytest.raises(CallError, match=r"wanted one of en, ru; got '.{80}'\.\.\.") as caught:
        client.classify(png(0), model="bands", language=tag)
    assert caught.value.reason == "OPTION_INVALID"


@pytest.mark.parametrize(("model", "version"), [("я" * 100_000, ""), ("bands", "1" * 100_000)])
def test_a_name_of_any_length_is_not_found_in_few_words(client: Client, png: Png, model: str, version: str) -> None:
    with pytest.raises(CallError, match=r"got '.{80}'\.\.\.") as caught:
        client.classify(png(0), model=model, version=version)
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_an_unknown_name_is_not_found_among_any_number_of_known_ones(
    start_server: Callable[..., RunningServer], tmp_path: Path, png: Png
) -> None:
    """The known ones fill a header, too: clients would say RESOURCE_EXHAUSTED of it, and ask again."""
    made = write_tiny_model(tmp_path / ("a" * 240))
    for letter in "bcdefghijklmnopqrstuvwxyz0123456789":
        shutil.copytree(made.parents[1], tmp_path / (letter * 240))
    with Client(start_server(tmp_path).address) as client:
        with pytest.raises(CallError, match="more; ListModels has all; got 'nothing'") as caught:
            client.classify(png(0), model="nothing")
        assert caught.value.code == "NOT_FOUND"


@pytest.mark.parametrize(("top_k", "count"), [(0, 3), (1, 1), (2, 2), (99, 3)])
def test_top_k_bounds_the_labels(client: Client, png: Png, top_k: int, count: int) -> None:
    assert len(client.classify(png(0), model="bands", top_k=top_k).classes) == count


def test_a_negative_top_k_is_refused(client: Client, png: Png) -> None:
    with pytest.raises(CallError, match="got -1"):
        client.classify(png(0), model="bands", top_k=-1)


def test_an_empty_version_is_the_highest_and_a_named_one_is_itself(client: Client, png: Png) -> None:
    assert client.classify(png(0), model="bands").version == "2"
    assert client.classify(png(0), model="bands", version="1").version == "1"


@pytest.mark.parametrize(("model", "version"), [("nothing", ""), ("", ""), ("bands", "3"), ("bands", "01")])
def test_an_unknown_model_or_version_is_not_found(client: Client, png: Png, model: str, version: str) -> None:
    with pytest.raises(CallError, match="wanted one of") as caught:
        client.classify(png(0), model=model, version=version)
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
