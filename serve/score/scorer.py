"""Batches of image files -> labels and probabilities, in one process: for the commands here and for other engines.

Enters: a model file, and batches as mappings of columns. Leaves: the same rows with columns of answers.
Does not know: where images come from, files of results, other processes, Ray.

A batch goes through the net in runs of a fixed size, so that the same rows in the same batches give the same bits. An
image that cannot be read gets its error in its row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from serve.errors import ConfigError, EmptyImage, InklingError, quote
from serve.images.decode import find_detail
from serve.images.policies.find import find_policy
from serve.images.reader import ImageReader, Prepared
from serve.inference.device import Placement, choose_device
from serve.inference.engine import Outputs, load
from serve.model_file.spec import OUTPUT, ModelSpec
from serve.score.model import Model, find_model

FAMILIARITY = "familiarity"
"""The engine's second output, float32 [N], of files that have it."""
MAX_IMAGE_PIXELS = 50_000_000
"""The server's default, too."""
BATCH = 32

Columns: TypeAlias = dict[str, list[Any]]
"""Values by column, None where there is none; all lists have the same length."""


class Scorer:
    """A callable for engines that map batches: Ray Data, Spark's mapInPandas, Beam's RunInference.

    It takes a mapping of columns, one of which holds the bytes of image files. It returns the other columns unchanged,
    as NumPy arrays, and `label`, `probability`, `error`, `reason`, `model`, `version` and `seal`.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        image_column: str = "bytes",
        top_k: int = 1,
        language: str = "",
        precision: str = "float32",
        device: str = "cpu",
        batch_size: int = BATCH,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        threads: int = 1,
    ) -> None:
        """Load a model. Raises ConfigError, ModelFileError and OSError.

        `model` is a model.onnx or its folder; of a folder of versions, the highest is taken. `threads` are those of one
        run on the CPU.
        """
        found = model if isinstance(model, Model) else find_model(model, precision)
        place, _ = choose_device(device, 0)
        placement = Placement(place, threads, max_batch=batch_size, gpu_memory_bytes=0)
        self._engine = load(found.path, placement, digest=found.digest)
        spec = self._engine.spec
        self._labels = _find_labels(spec, language)
        if not 1 <= top_k <= spec.class_count:
            raise ConfigError(f"--top-k: wanted 1 to {spec.class_count}, the model's classes; got {top_k}")
        self._top_k = top_k
        self._image_column = image_column
        self._reader = ImageReader(
            find_policy(spec.prepare, spec.input), max_image_pixels, find_detail(spec.input.shape)
        )
        self._facts = {"model": found.name or spec.name, "version": found.version, "seal": found.seal}
        self._has_familiarity = FAMILIARITY in self._run(np.zeros((1, *spec.input.shape), np.uint8))
        self.input_shape = spec.input.shape
        """Height, width and channels of what the model takes."""
        self.columns = tuple(self.score([]))
        """The names of the columns that `score` returns."""

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Score a batch: arrays of the other columns and of the answers; NaN and None where there is no answer."""
        if self._image_column not in batch:
            raise ConfigError(f"wanted a column {quote(self._image_column)} of image files, got {', '.join(batch)}")
        others = {name: np.asarray(values) for name, values in batch.items() if name != self._image_column}
        found = self.score([take_bytes(value) for value in batch[self._image_column]])
        return others | {name: _to_array(name, values) for name, values in found.items()}

    def score(self, images: Sequence[bytes | Exception]) -> Columns:
        """The columns of answers; an error in place of an image's bytes comes back in its row."""
        prepared = self._reader.read_all(list(images))
        good = [index for index, image in enumerate(prepared) if isinstance(image, Prepared)]
        columns = self._blank(len(images))
        for index, image in enumerate(prepared):
            if isinstance(image, Exception):
                columns["error"][index], columns["reason"][index] = describe_error(image)
        size = self._engine.max_batch
        for at in range(0, len(good), size):
            rows = good[at : at + size]
            outputs = self._run(np.stack([prepared[row].pixels for row in rows]))  # type: ignore[union-attr]
            self._fill(columns, rows, outputs)
        return columns

    def _run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        return self._engine.run(pixels, spread=False)

    def _blank(self, count: int) -> Columns:
        ranked = [name for place in range(self._top_k) for name in _name_columns(place)]
        names = [*ranked, *([FAMILIARITY] if self._has_familiarity else []), "error", "reason"]
        return {
            **{name: [None] * count for name in names},
            **{name: [text] * count for name, text in self._facts.items()},
        }

    def _fill(self, columns: Columns, rows: Sequence[int], outputs: Outputs) -> None:
        """Write the answers of one run into the rows that it had."""
        probabilities = outputs[OUTPUT]
        ranking = (-probabilities).argsort(axis=1, kind="stable")[:, : self._top_k]
        is_finite = np.asarray(np.isfinite(probabilities).all(axis=1))
        best = np.take_along_axis(probabilities, ranking, axis=1).tolist()
        for at, row in enumerate(rows):
            if not is_finite[at]:
                columns["error"][row] = "the model gave probabilities that are not finite"
                columns["reason"][row] = "ANSWER_INVALID"
                continue
            for place, index in enumerate(ranking[at].tolist()):
                label, probability = _name_columns(place)
                columns[label][row], columns[probability][row] = self._labels[index], best[at][place]
            if self._has_familiarity:
                columns[FAMILIARITY][row] = float(outputs[FAMILIARITY][at])


def take_bytes(value: Any) -> bytes | Exception:
    """The bytes in a cell: plain, or in a structure with a field `bytes`, as Hugging Face's data sets have it."""
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if content is None:
        return EmptyImage("wanted the bytes of an image, got an empty cell")
    return bytes(content)


def describe_error(error: Exception) -> tuple[str, str]:
    """The sentence and the reason that a row gets; of an unforeseen error only its kind."""
    if isinstance(error, InklingError):
        return str(error), error.reason
    if isinstance(error, OSError):
        return error.strerror or "the file cannot be read", "FILE_UNREADABLE"
    return f"the image could not be prepared: {type(error).__name__}", "INTERNAL"


def _name_columns(place: int) -> tuple[str, str]:
    suffix = "" if place == 0 else f"_{place + 1}"
    return f"label{suffix}", f"probability{suffix}"


def is_number(column: str) -> bool:
    """Whether a column of answers holds numbers; the others hold texts."""
    return column == FAMILIARITY or column.startswith("probability")


def _to_array(name: str, values: list[Any]) -> npt.NDArray[Any]:
    return np.array(values, np.float32 if is_number(name) else object)


def _find_labels(spec: ModelSpec, language: str) -> tuple[str, ...]:
    chosen = language or next(iter(spec.labels))
    if chosen not in spec.labels:
        raise ConfigError(f"--language: wanted one of {', '.join(spec.labels)}; got {quote(chosen)}")
    return spec.labels[chosen]
