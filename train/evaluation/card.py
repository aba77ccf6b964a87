"""The facts of an exported model -> its card, a README.md beside the file in the form of Hugging Face's hub.

Enters: a `ModelSpec`, the history of the epochs, probabilities and true labels of the test set. Leaves: a Markdown
file that shows the pictures of `figures.py`. Does not know: Keras, ONNX, how anything was measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serve.model_file.familiarity import FamiliaritySpec
from serve.model_file.spec import ModelSpec
from train.evaluation.calibration import measure_calibration_error, undo_calibration
from train.evaluation.metrics import Floats, Integers, count_confusions

PUBLISHED = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}
"""Names of the published datasets on the hub. A user's own folder has none."""
FAMILIARITY_TITLE, TRAINING_TITLE = "## Familiarity", "## Training"

MOST_LISTED = 100
"""Classes that the card names in a sentence."""


def write_card(
    path: Path,
    spec: ModelSpec,
    history: Sequence[Mapping[str, float]],
    probabilities: Floats,
    truth: Integers,
    *,
    multiply_adds: int | None = None,
) -> None:
    """Write the card of a model that gave probabilities float [N, K] for test images of labels `truth` int [N]."""
    parts = [
        describe_front(spec, probabilities, truth),
        describe_use(spec),
        describe_results(spec, probabilities, truth),
        *([describe_cost(spec, multiply_adds)] if multiply_adds else []),
        *([describe_familiarity(spec.familiarity)] if spec.familiarity else []),
        describe_training(spec, history),
        describe_limits(spec),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def describe_front(spec: ModelSpec, probabilities: Floats, truth: Integers) -> str:
    """The YAML front matter that the hub reads: what the model is, and its result."""
    dataset = PUBLISHED.get(spec.dataset)
    error = measure_calibration_error(probabilities, truth)
    lines = [
        "---",
        *(["license: apache-2.0"] if dataset else []),  # users choose the licence of their own pictures
        "library_name: onnx",
        "pipeline_tag: image-classification",
        "tags: [keras, onnx, image-classification]",
        *([f"datasets: [{dataset}]"] if dataset else []),
        "metrics: [accuracy]",
        "model-index:",
        f"- name: {spec.name}",
        "  results:",
        "  - task: {type: image-classification}",
        f"    dataset: {{type: {dataset or 'imagefolder'}, name: {_quote(spec.dataset)}, split: test}}",
        "    metrics:",
        f"    - {{type: accuracy, value: {spec.test_accuracy:.4f}}}",
        f"    - {{type: expected_calibration_error, value: {error:.4f}}}",
        "---",
    ]
    return "\n".join(lines)


def describe_use(spec: ModelSpec) -> str:
    """The section with input, output and the commands that serve the model."""
    height, width, _ = spec.input.shape
    return f"""
# {spec.name}

An image classifier of {spec.parameters:,} parameters with {spec.class_count} classes: {_list(spec.labels["en"])}.
`model.onnx` takes `images`, {spec.input.dtype} [N, {height}, {width}, {spec.input.shape[2]}] ({spec.input.colour}), \
and gives `probabilities`, float32 [N, {spec.class_count}]. Any image becomes that input by the policy \
`{spec.prepare.policy}/{spec.prepare.version}`, which Inkling's server applies:

```sh
python -m serve --models DIR
python -m serve.client --model {spec.name} image.png
```
"""


def describe_results(
    spec: ModelSpec, probabilities: Floats, truth: Integers, fitted_to: str = "held-out training images"
) -> str:
    """The section with accuracy, calibration and what it was fitted to, a row for each class, and the pictures."""
    after, before = measure_calibration_error(probabilities, truth), _measure_uncalibrated(spec, probabilities, truth)
    matrix = count_confusions(probabilities, truth)
    rows = zip(spec.labels["en"], matrix.sum(axis=1), matrix.diagonal(), matrix.sum(axis=0), strict=True)
    table = [
        f"| {label} | {true} | {right / max(found, 1):.4f} | {right / max(true, 1):.4f} |"
        for label, true, right, found in rows
        if true or found  # of a thousand classes, a few may be in the test set
    ]
    calibration = f"Expected calibration error (15 bins): {after:.4f}"
    if before is not None:
        calibration += f"; {before:.4f} before calibration, which was fitted to {fitted_to}"
    return "\n".join([
        "## Results",
        "",
        f"Test accuracy {spec.test_accuracy:.4f} over {spec.test_count:,} images, by this file. {calibration}.",
        "",
        "| class | images | precision | recall |",
        "|---|---|---|---|",
        *table,
        "",
        "![Confusion matrix](confusion.png)",
        "![Reliability diagram](reliability.png)",
        "![The most confident mistakes](mistakes.png)",
        "",
    ])  # fmt: skip


def describe_cost(spec: ModelSpec, multiply_adds: int) -> str:
    """The section with what an answer costs."""
    view = spec.recipe.get("second_view")
    looks = ""
    if view:
        looks = (
            f" The mirror image is looked at, too, if the confidence before calibration is below {view['below']:.4f}. "
            f"That is so for {view['share']:.1%} of the held-out images, and counted for as many here."
        )
    if cascade := spec.recipe.get("cascade"):
        looks = (
            f" Two nets share the work. The second one is asked if the highest probability of the first one is below "
            f"{cascade['below']:.4f}. That is so for {cascade['share']:.1%} of the held-out images, and counted for as "
            f"many here. The answer is then the mean of both, with {cascade['weight']:g} of the second. Of all "
            f"held-out images the first one alone is right for {cascade['accuracy_of_first']:.4f}, the second one for "
            f"{cascade['accuracy_of_second']:.4f}, and both together for {cascade['accuracy']:.4f}."
        )
    return f"""## Cost

An answer takes {multiply_adds / 1e6:,.1f} million multiply-adds.{looks}
`python -m train.measure` measures its time on one core.
"""


def describe_familiarity(familiarity: FamiliaritySpec) -> str:
    """The section with how familiarity was fitted, and what a threshold does."""
    threshold = familiarity.threshold
    rows = familiarity.strangers.items()
    table = [f"| {kind} | {figures.roc_auc:.3f} | {figures.caught:.3f} |" for kind, figures in rows]
    return "\n".join([
        FAMILIARITY_TITLE,
        "",
        f"`familiarity`, float32 [N], is the share of {familiarity.held_out_count:,} held-out images that look less",
        f"typical. The distance is taken before the last layer: {familiarity.method}. Below {threshold:g} are",
        f"{familiarity.turned_away:.2%} of the test images, and these shares of images that show none of the classes.",
        "They were made to choose the way of measuring. Others may be harder or easier to tell.",
        "",
        f"| images | area under the ROC curve | share below {threshold:g} |",
        "|---|---|---|",
        *table,
        "",
    ])  # fmt: skip


def replace_familiarity(path: Path, spec: ModelSpec) -> None:
    """Put the section on familiarity into a card that exists, in place of an older one or before the training."""
    if not path.exists() or spec.familiarity is None:
        return
    text = path.read_text(encoding="utf-8")
    head, title, rest = text.partition(FAMILIARITY_TITLE)
    if title:
        following = rest.find("\n## ")
        rest = rest[following + 1 :] if following >= 0 else ""
    else:
        head, title, rest = text.partition(TRAINING_TITLE)
        rest = title + rest
    replace_text(path, f"{head}{describe_familiarity(spec.familiarity)}\n{rest}")


def replace_text(path: Path, text: str) -> None:
    """Write a file that exists anew, whole or not at all: a full disk leaves the older one."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _measure_uncalibrated(spec: ModelSpec, probabilities: Floats, truth: Integers) -> float | None:
    """The calibration error without the calibration, of calibrated probabilities float [N, K]; None without one."""
    calibration = spec.recipe.get("calibration")
    if not calibration:
        return None
    before = undo_calibration(probabilities, calibration["temperature"], calibration.get("smoothing", 0.0))
    return measure_calibration_error(before, truth)


def describe_training(spec: ModelSpec, history: Sequence[Mapping[str, float]]) -> str:
    """The section with the recipe, the duration, and the origin."""
    cascade = spec.recipe.get("cascade")
    settings = _list_settings({key: value for key, value in spec.recipe.items() if key != "cascade"})
    if cascade:
        settings += ["", "The first net was trained with other settings.", "", *_list_settings(cascade["first"])]
    versions = ", ".join(f"{name} {version}" for name, version in spec.versions.items())
    initial = spec.recipe.get("initial")
    start = f"the weights of `{initial}` as it was before" if initial else "random weights"
    how = f"{len(history)} epochs in {sum(row['seconds'] for row in history):,.0f} s, from {start},"
    if cascade:
        how = f"`python -m train.cascade` joined two nets, of which the second began with {start}. Both were trained"
    return "\n".join([
        TRAINING_TITLE,
        "",
        f"{how} only on the training set.",
        "",
        *settings,
        "",
        f"Made {spec.created:%Y-%m-%d} by commit {spec.source_commit} with {versions}.",
        "",
        *(["![Loss and accuracy by epoch](curves.png)", ""] if history else []),
    ])  # fmt: skip


def _list_settings(settings: Mapping[str, Any]) -> list[str]:
    return [f"- {key}: {_word(value)}" for key, value in settings.items() if value is not None]


def describe_limits(spec: ModelSpec, lack_of_images: str = "too few images were held out") -> str:
    """The section that says what the model cannot do, and why it is not calibrated if it is not."""
    is_single = "cascade" not in spec.recipe  # a cascade has none if one of its files has none
    unfitted = is_single and spec.recipe.get("gives_familiarity") and not spec.familiarity
    lack = "\nIt gives no familiarity, as too few images were held out to fit it." if unfitted else ""
    return f"""## Limits

It knows only its {spec.class_count} classes and answers every image with one of them.{lack}
The probabilities are {_describe_calibration(spec.recipe, lack_of_images)}. For others, the accuracy has to be measured
(`python -m serve.evaluate DIR`).
"""


def _describe_calibration(recipe: Mapping[str, Any], lack_of_images: str) -> str:
    """What the probabilities are good for. Most answers of a cascade are those of its first net, as they are."""
    if cascade := recipe.get("cascade"):
        is_calibrated, why_not = cascade["first"].get("calibration"), "as those of the first net are not"
    else:
        is_calibrated, why_not = recipe.get("calibration"), f"as {lack_of_images}"
    return "calibrated for images like those of the test set" if is_calibrated else f"not calibrated, {why_not}"


def _list(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_LISTED} more" if len(labels) > MOST_LISTED else ""
    return ", ".join(labels[:MOST_LISTED]) + more


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_word(each)}" for key, each in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
