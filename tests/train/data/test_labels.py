"""`train.data.labels`: names of classes from every usual file, or what is wrong with it."""

import json
from pathlib import Path

import pytest

from train.data.labels import LabelsUnusable, read_labels


def write(folder: Path, content: object, name: str = "labels") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "content",
    [
        "cat\ndog\nowl\n",
        "\ufeffcat\r\ndog \r\nowl\r\n\r\n",
        ["cat", "dog", "owl"],
        {"0": "cat", "2": "owl", "1": "dog"},
        {"cat": 0, "owl": 2, "dog": 1},
        {"architectures": ["ViT"], "id2label": {"0": "cat", "1": "dog", "2": "owl"}},
        {"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "owl"]},
    ],
    ids=["lines", "lines of Windows", "list", "by index", "to index", "config.json", "ImageNet"],
)
def test_labels_are_read_from_every_usual_form(content: object, tmp_path: Path) -> None:
    labels = read_labels([write(tmp_path, content)])
    assert labels.names == {"en": ("cat", "dog", "owl")}
    assert labels.find("owl") == 2
    assert labels.find("cow") is None


def test_a_class_is_found_by_its_other_names_and_in_every_language(tmp_path: Path) -> None:
    english = write(tmp_path, {"0": ["n02123045", "tabby"], "1": ["n01530575", "brambling"]}, "en")
    russian = write(tmp_path, ["кот", "юрок"], "ru")
    labels = read_labels([f"en={english}", f"ru={russian}"])
    assert labels.names == {"en": ("tabby", "brambling"), "ru": ("кот", "юрок")}
    assert [labels.find(name) for name in ("n01530575", "юрок", "tabby")] == [1, 1, 0]


def test_a_folder_of_a_mac_is_found_by_its_composed_name(tmp_path: Path) -> None:
    labels = read_labels([write(tmp_path, "caf\u00e9\nth\u00e9")])
    assert labels.find("the\u0301") == 1


def test_of_a_name_that_two_classes_have_nothing_is_known(tmp_path: Path) -> None:
    """ImageNet has two cranes."""
    labels = read_labels([write(tmp_path, {"0": ["n1", "crane"], "1": ["n2", "crane"]})])
    assert (labels.find("crane"), labels.find("n2")) == (None, 1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "got an empty file"),
        ("cat\n\ndog", "wanted a label for class 1 that can be shown"),
        ({"0": "cat", "2": "dog"}, "wanted a label for each index from 0 to 1"),
        ('{"0": "cat"', "the JSON is malformed"),
        ({"0": 1.5}, "wanted labels as text"),
        ("a\x00b", "that can be shown"),
        ('{"0": "cat", "1": "dog", "0": "owl"}', "the JSON is malformed: '0' is there twice"),
        ("[" * 100_000, "the JSON is malformed: maximum recursion depth"),
    ],
)
def test_a_file_that_does_not_name_every_class_is_refused(content: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(LabelsUnusable, match=sentence):
        read_labels([write(tmp_path, content)])


def test_languages_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    two, three = write(tmp_path, "a\nb", "two"), write(tmp_path, "a\nb\nc", "three")
    with pytest.raises(LabelsUnusable, match="as many labels in each language, got en 2, ru 3"):
        read_labels([two, f"ru={three}"])
    with pytest.raises(LabelsUnusable, match="wanted English labels"):
        read_labels([f"ru={three}"])
    with pytest.raises(LabelsUnusable, match="one file for the language en, got two"):
        read_labels([two, f"en={three}"])
    with pytest.raises(LabelsUnusable, match="wanted a file that can be read"):
        read_labels([str(tmp_path / "gone")])
