"""`python -m tests.strangers.measure MODEL_FILE`: how well a model's familiarity tells strangers from test images.

Enters: a model.onnx of `mnist` or `cifar10` that has the output. Leaves: a table of the area under the ROC curve
against test images, and of the shares below a threshold. Pictures pass the server's decoder and the model's policy.
"""

import argparse
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from serve.images.decode import decode
from serve.images.pixels import Policy
from serve.images.policies.find import find_policy
from tests.strangers.images import Random, list_kinds
from train.data.datasets import load
from train.evaluation.familiarity import measure_roc_auc
from train.export.onnx_file import read_model_file, run_outputs

THRESHOLD = 0.01
MOST_PIXELS = 10**6
PUBLISHED = {"mnist": "mnist", "cifar10": "cifar10"}


def prepare_all(draw: Callable[[Random], Image.Image], policy: Policy, count: int, seed: int) -> npt.NDArray[np.uint8]:
    """`count` pictures of one kind as the model takes them, uint8 [N, H, W, C]."""
    random = np.random.default_rng(seed)
    pixels = []
    for _ in range(count):
        file = BytesIO()
        draw(random).save(file, "PNG")
        pixels.append(policy(decode(file.getvalue(), MOST_PIXELS)))
    return np.stack(pixels)


def measure(path: Path, count: int, test_count: int, seed: int) -> dict[str, dict[str, float]]:
    """The figures by kind, those of the test images first."""
    data, spec = read_model_file(path)
    policy = find_policy(spec.prepare, spec.input)
    tests = {name: load(name).test.images for name in PUBLISHED}

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.concatenate([batch for (batch,) in run_outputs(data, images, ["familiarity"])])

    known = run(tests[spec.dataset][:test_count])
    figures = {"test images": {"roc_auc": 0.5, "below": float((known < THRESHOLD).mean()), "count": len(known)}}
    kinds = list_kinds(spec.dataset, tests["mnist"], tests["cifar10"])
    for number, (kind, draw) in enumerate(kinds.items()):
        found = run(prepare_all(draw, policy, count, seed + number))
        below = float((found < THRESHOLD).mean())
        figures[kind] = {"roc_auc": measure_roc_auc(-known, -found), "below": below, "count": count}
    return figures


def main() -> None:
    """Print the figures of the command line's file."""
    parser = argparse.ArgumentParser(prog="python -m tests.strangers.measure", description=measure.__doc__)
    parser.add_argument("file", type=Path, metavar="MODEL_FILE")
    parser.add_argument("--count", type=int, default=500, help="images of each kind (default: 500)")
    parser.add_argument("--test-count", type=int, default=2000, help="test images (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.file, options.count, options.test_count, options.seed)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{'images':18} {'ROC AUC':>8} {f'below {THRESHOLD}':>11} {'count':>6}")
    for kind, row in figures.items():
        print(f"{kind:18} {row['roc_auc']:8.4f} {row['below']:11.2%} {row['count']:6.0f}")


if __name__ == "__main__":
    main()
