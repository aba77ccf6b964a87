"""The facts of a model that was trained elsewhere -> its card, a README.md beside the file.

Enters: a `ModelSpec`, and probabilities with true labels of pictures, if there were any. Leaves: a Markdown file.
Does not know: frameworks, ONNX, how anything was measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serve.model_file.spec import UNVERIFIED, ModelSpec
from train.evaluation.card import describe_limits, describe_results, describe_use
from train.evaluation.metrics import Floats, Integers


def write_converted_card(path: Path, spec: ModelSpec, probabilities: Floats, truth: Integers) -> None:
    """Write the card. Without labelled pictures, `spec.test_count` is 0 and the card says that nothing is known."""
    if spec.test_count:
        results = describe_results(spec, probabilities, truth, "labelled pictures that these figures leave out")
    else:
        results = describe_unverified(spec)
    limits = describe_limits(spec, f"{'too few' if spec.test_count else 'no'} labelled pictures were given")
    parts = [_describe_front(spec), describe_use(spec), results, describe_conversion(spec), limits]
    path.write_text("\n".join(parts), encoding="utf-8")


def _describe_front(spec: ModelSpec) -> str:
    """The YAML front matter that the hub reads. The licence is that of the model's maker."""
    lines = ["---", "library_name: onnx", "pipeline_tag: image-classification", "tags: [onnx, image-classification]"]
    if spec.test_count:
        lines += ["metrics: [accuracy]", "model-index:", f"- name: {spec.name}", "  results:"]
        lines += ["  - task: {type: image-classification}", "    dataset: {type: imagefolder, name: own pictures}"]
        lines += ["    metrics:", f"    - {{type: accuracy, value: {spec.test_accuracy:.4f}}}"]
    return "\n".join([*lines, "---"])


def describe_unverified(spec: ModelSpec) -> str:
    """The section in place of results."""
    return f"""## Results

This file is {UNVERIFIED}: no labelled pictures were at hand when it was converted, so its accuracy is not known.
`python -m serve.evaluate DIR --model {spec.name}` measures it on class folders.
"""


def describe_conversion(spec: ModelSpec) -> str:
    """The section that says what the model was, and what was done."""
    facts: Mapping[str, Any] = spec.recipe
    parity: Mapping[str, Any] = facts["parity"]
    steps: Sequence[str] = facts["conversion"]
    versions = ", ".join(f"{name} {version}" for name, version in spec.versions.items())
    return "\n".join([
        "## Conversion",
        "",
        f"Made from `{facts['converted_from']}`, SHA-256 {facts['source_sha256'][:12]}..., trained elsewhere:",
        "",
        *(f"- {step}" for step in steps),
        "",
        f"Over {parity['image_count']} pictures, no probability differs from the model's own by more than",
        f"{parity['largest_difference']:.2g}, where {parity['limit']:.2g} is allowed.",
        f"Made {spec.created:%Y-%m-%d} with {versions}.",
        "",
    ])  # fmt: skip
