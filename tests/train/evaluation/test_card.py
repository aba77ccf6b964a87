"""`train.evaluation.card`: the front of a card is YAML, and every figure in the card comes from the arrays."""

import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from serve.model_file.familiarity import FamiliaritySpec, StrangerFigures
from serve.model_file.spec import InputSpec, ModelSpec, PrepareSpec, SelfTest
from train.evaluation.calibration import apply_softmax, measure_calibration_error
from train.evaluation.card import replace_familiarity, write_card

HISTORY = [{"epoch": 1, "seconds": 30.5}, {"epoch": 2, "seconds": 31.0}]
TEMPERATURE = 0.5


@pytest.fixture
def logits() -> np.ndarray:
    """Logits float [200, 3] for labels 0, 1, 2, 0 and so on, which are mostly right."""
    random = np.random.default_rng(0)
    return random.normal(0, 1, (200, 3)) + 2 * np.eye(3)[np.arange(200) % 3]


def make_spec(dataset: str = "cifar10", calibration: dict | None = None, initial: str | None = None) -> ModelSpec:
    return ModelSpec(
        name="small",
        dataset=dataset,
        labels={"en": ("cat", "dog", "frog")},
        input=InputSpec((32, 32, 3), "uint8", "rgb"),
        prepare=PrepareSpec("photo", 1, {}),
        precision="float32",
        test_accuracy=0.8765,
        test_count=200,
        recipe={
            "net": "conv 8 3x3, flatten",
            "epochs": 2,
            "augmentation": None,
            "calibration": calibration,
            "initial": initial,
        },
        parameters=12345,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        source_commit="abc",
        versions={"keras": "3"},
        self_test=SelfTest(0, ((0.5, 0.25, 0.25),), 1e-3),
    )


def write(folder: Path, spec: ModelSpec, probabilities: np.ndarray) -> str:
    path = folder / "README.md"
    write_card(path, spec, HISTORY, probabilities, np.arange(200) % 3)
    return path.read_text(encoding="utf-8")


def test_the_front_names_the_dataset_as_the_hub_does_and_the_result(tmp_path: Path, logits: np.ndarray) -> None:
    front = write(tmp_path, make_spec(), apply_softmax(logits)).split("---\n")[1]
    assert "datasets: [uoft-cs/cifar10]" in front
    assert "{type: accuracy, value: 0.8765}" in front


def test_a_users_own_folder_is_quoted_and_claims_no_published_dataset(tmp_path: Path, logits: np.ndarray) -> None:
    name = 'shapes: "mine" sha256:12'
    front = write(tmp_path, make_spec(dataset=name), apply_softmax(logits)).split("---\n")[1]
    assert "datasets:" not in front
    quoted = re.search(r"name: (\".*\"), split", front)
    assert quoted
    assert json.loads(quoted[1]) == name


def test_calibration_is_given_before_and_after_it(tmp_path: Path, logits: np.ndarray) -> None:
    truth = np.arange(200) % 3
    after = apply_softmax(logits, TEMPERATURE)
    card = write(tmp_path, make_spec(calibration={"temperature": TEMPERATURE}), after)
    assert f"(15 bins): {measure_calibration_error(after, truth):.4f}; " in card
    assert f"{measure_calibration_error(apply_softmax(logits), truth):.4f} before calibration" in card


def test_a_card_claims_calibration_and_licence_only_where_they_apply(tmp_path: Path, logits: np.ndarray) -> None:
    probabilities = apply_softmax(logits)
    own = write(tmp_path, make_spec(dataset="shapes sha256:12"), probabilities)
    published = write(tmp_path, make_spec(calibration={"temperature": TEMPERATURE}), probabilities)
    assert "The probabilities are not calibrated" in own
    assert "are calibrated" not in own
    assert "license:" not in own
    assert "The probabilities are calibrated" in published
    assert "license: apache-2.0" in published


def test_a_card_says_that_familiarity_could_not_be_fitted(tmp_path: Path, logits: np.ndarray) -> None:
    """The recipe's setting alone, `gives_familiarity: True`, reads as if the file gave it."""
    lack, probabilities = "It gives no familiarity, as too few images were held out", apply_softmax(logits)
    plain = make_spec()
    unfitted = dataclasses.replace(plain, recipe={**plain.recipe, "gives_familiarity": True})
    assert lack in write(tmp_path, unfitted, probabilities)
    assert lack not in write(tmp_path, plain, probabilities)


def test_a_cascade_claims_calibration_only_if_its_first_net_has_it(tmp_path: Path, logits: np.ndarray) -> None:
    """The first net gives most answers alone, and only the mean of both is calibrated when they are joined."""
    figures = dict.fromkeys(("accuracy_of_first", "accuracy_of_second", "accuracy"), 0.9)
    cascade = {"below": 0.7, "weight": 0.6, "power": 1.2, "share": 0.1, **figures}
    for calibration, claim in (({"temperature": TEMPERATURE}, "calibrated for"), (None, "not calibrated, as those of")):
        recipe = {"net": "conv 8 3x3", "cascade": {**cascade, "first": {"calibration": calibration}}}
        card = write(tmp_path, dataclasses.replace(make_spec(), recipe=recipe), apply_softmax(logits))
        assert f"The probabilities are {claim}" in card


def test_precision_and_recall_are_those_of_the_answers(tmp_path: Path, logits: np.ndarray) -> None:
    answers = logits.argmax(axis=1)
    truth = np.arange(200) % 3
    right = int(((answers == 1) & (truth == 1)).sum())
    precision, recall = right / (answers == 1).sum(), right / (truth == 1).sum()
    card = write(tmp_path, make_spec(), apply_softmax(logits))
    assert f"| dog | {(truth == 1).sum()} | {precision:.4f} | {recall:.4f} |" in card


def test_a_card_lists_settings_duration_and_origin(tmp_path: Path, logits: np.ndarray) -> None:
    card = write(tmp_path, make_spec(), apply_softmax(logits))
    assert "2 epochs in 62 s" in card or "2 epochs in 61 s" in card
    assert "- net: conv 8 3x3, flatten" in card
    assert "commit abc" in card
    assert "augmentation" not in card
    assert "None" not in card


def test_every_picture_of_a_report_is_shown(tmp_path: Path, logits: np.ndarray) -> None:
    card = write(tmp_path, make_spec(), apply_softmax(logits))
    assert set(re.findall(r"\((\w+\.png)\)", card)) == {
        "confusion.png",
        "reliability.png",
        "mistakes.png",
        "curves.png",
    }


FAMILIAR = FamiliaritySpec("Mahalanobis", 4000, 0.01, 0.0123, {"letters": StrangerFigures(0.9876, 0.75)})


def test_a_card_has_the_figures_of_a_familiarity_and_others_do_not(tmp_path: Path, logits: np.ndarray) -> None:
    shares, truth = apply_softmax(logits), np.arange(200) % 3
    write_card(tmp_path / "without.md", make_spec(), HISTORY, shares, truth)
    write_card(tmp_path / "with.md", dataclasses.replace(make_spec(), familiarity=FAMILIAR), HISTORY, shares, truth)
    without, card = ((tmp_path / f"{name}.md").read_text() for name in ("without", "with"))
    assert "amiliarity" not in without
    assert "| letters | 0.988 | 0.750 |" in card
    assert "Below 0.01 are\n1.23% of the test images" in card
    assert card.index("## Results") < card.index("## Familiarity") < card.index("## Training")


def test_a_card_that_exists_gets_the_section_and_then_a_new_one(tmp_path: Path, logits: np.ndarray) -> None:
    path, shares, truth = tmp_path / "README.md", apply_softmax(logits), np.arange(200) % 3
    familiar = dataclasses.replace(make_spec(), familiarity=FAMILIAR)
    write_card(path, familiar, HISTORY, shares, truth)
    wanted = path.read_text()
    write_card(path, make_spec(), HISTORY, shares, truth)
    for method in ("another", "Mahalanobis"):
        fitted = dataclasses.replace(FAMILIAR, method=method)
        replace_familiarity(path, dataclasses.replace(make_spec(), familiarity=fitted))
        assert path.read_text().count("## Familiarity") == 1
    assert path.read_text() == wanted
    replace_familiarity(tmp_path / "none.md", familiar)
    assert not (tmp_path / "none.md").exists()


@pytest.mark.parametrize(
    ("initial", "start"),
    [(None, "from random weights"), ("one.onnx", "from the weights of `one.onnx` as it was before")],
)
def test_a_card_says_what_a_training_started_from(
    tmp_path: Path, logits: np.ndarray, initial: str | None, start: str
) -> None:
    assert start in write(tmp_path, make_spec(initial=initial), apply_softmax(logits))


def test_the_section_on_familiarity_is_replaced_and_those_around_it_stay(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# bands\n\n## Familiarity\n\nof before\n\n## Corrupted images\n\nrows\n\n## Training\n\nwords\n")
    replace_familiarity(path, dataclasses.replace(make_spec(), familiarity=FAMILIAR))
    text = path.read_text()
    assert "of before" not in text
    assert text.startswith("# bands\n\n## Familiarity\n\n`familiarity`, float32 [N]")
    assert text.endswith("\n\n## Corrupted images\n\nrows\n\n## Training\n\nwords\n")
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]
