"""A model file that exists -> what it gives for a dataset's test images.

Enters: a model's name and the folders to look in, or a file and a `Dataset`. Leaves: the file's path, or its facts and
its probabilities by ONNX Runtime. Does not know: recipes, flags, what the probabilities should be.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from serve.errors import ModelFileError
from serve.model_file.spec import ModelSpec

if TYPE_CHECKING:
    from train.data import Dataset

SHIPPED = Path(__file__).parents[1] / "models"


def run_file(path: Path, dataset: "Dataset") -> tuple[ModelSpec, npt.NDArray[np.float32]]:
    """A file's facts, and its probabilities float32 [N, K] for the test images. Raises ModelFileError."""
    from train.onnx_file import read_model_file, run_onnx  # they bring ONNX, which --help does without

    data, spec = read_model_file(path)
    if spec.dataset != dataset.name:
        raise ModelFileError(f"{path}: wanted a model of {dataset.name}, found one of {spec.dataset}")
    return spec, run_onnx(data, dataset.test_images)
