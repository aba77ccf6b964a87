"""A `Source`, what the user says of it, and pictures -> a graph with the model's own answers as probabilities.

Enters: a trained model, `Choices`, images uint8 [N, H, W, C] to compare on. Leaves: a `Converted` graph, or
Unconvertible with what to say or to do. Does not know: files, labels' names, accuracy.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx

from serve.errors import ModelFileError
from train.data.datasets import Images, Part, choose_batch_size
from train.export.foreign.answers import (
    KINDS,
    LOGIT,
    PROBABILITIES,
    SIGMOID,
    SIGMOIDS,
    add_probabilities,
    make_probabilities,
    name_answers,
    require_values,
)
from train.export.foreign.layout import Layout
from train.export.foreign.scaling import COMMON, Scaling, scales_itself
from train.export.foreign.source import Array, Source, Tensor, Unconvertible
from train.export.foreign.wrap import choose_output, wrap
from train.export.measure.parity import Parity, ParityFailed, find_limit, measure_parity, require_parity
from train.export.onnx_file import run_onnx
from train.export.simplify import simplify

AUTO = "auto"
HINTED = 64
"""Labelled images on which common ranges of pixels are tried, to help who did not say one."""
HALF_FACTOR = 100
"""How much further than in float32 the probabilities of a model may differ that computes in 16 bits."""
FREE_BATCH = (
    "export it with a free batch, in PyTorch with "
    'torch.onnx.export(..., input_names=["images"], dynamic_axes={"images": {0: "batch"}})'
)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user says of a model; None and AUTO for what is to be found out."""

    scaling: Scaling | None = None
    output: str | None = None
    answers: str = AUTO


@dataclass(frozen=True)
class Converted:
    """A graph from `images` to `probabilities`, and what was done for it."""

    graph: onnx.ModelProto
    parity: Parity
    notes: tuple[str, ...]
    """A sentence each."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For the metadata."""


@dataclass(frozen=True)
class Original:
    """A model as it came, and which of its outputs holds the classes."""

    source: Source
    layout: Layout
    output: Tensor
    columns: int
    """Numbers of that output for an image."""

    def run(self, scaling: Scaling, images: Images) -> Array:
        """Its outputs float [N, K] for images uint8 [N, H, W, C]. Raises Unconvertible."""
        size = self.layout.batch or choose_batch_size(images)
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self._run_batch(scaling, batch) for batch in batches])

    def _run_batch(self, scaling: Scaling, images: Images) -> Array:
        pixels = self.layout.take_channels(images)
        # A model of bytes gets bytes; 32-bit integers are those of the pixels.
        values = scaling.apply(pixels) if scaling != Scaling() else pixels
        missing = (self.layout.batch or 0) - len(pixels)
        values = np.concatenate([values, values[:1].repeat(missing, axis=0)]) if missing > 0 else values
        try:
            rows = np.asarray(self.source.run(self.layout.arrange(values))[self.output.name], np.float32)
        except Exception as error:  # any runtime's
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Unconvertible(f"the model itself cannot run on {self.layout.describe()}: {reason}") from error
        if rows.size != len(values) * self.columns:  # the graph may leave the number of classes open
            found = f"{list(rows.shape)} for {len(values)} images"
            raise Unconvertible(f"wanted {self.columns} numbers for each image from {self.output}, found {found}")
        return rows.reshape(-1, self.columns)[: len(pixels)]


def convert(
    source: Source, layout: Layout, class_count: int, choices: Choices, images: Images, *, hints: Part | None = None
) -> Converted:
    """Convert a model of `class_count` labels. Raises Unconvertible and ParityFailed.

    `hints` are labelled images: where the range of the pixels has to be said, they show which one it may be.
    """
    output, columns = choose_output(source.outputs, choices.output, class_count)
    if class_count != (wanted := max(2, columns)):
        raise Unconvertible(f"wanted {wanted} labels for the output {output}, got {class_count}")
    original = Original(source, layout, output, columns)
    scaling = _choose_scaling(original, choices, hints)
    _require_levels(scaling, layout.dtype)
    expected = original.run(scaling, images)
    bare = wrap(source.graph, layout, scaling, output, columns)
    kind = _choose_kind(choices.answers, expected, bare, columns)
    graph = add_probabilities(bare, kind)
    graph = simplify(graph) if "tf2onnx" in source.packages else graph
    probabilities = make_probabilities(expected, kind)
    limit = find_limit(probabilities) * (HALF_FACTOR if "float16" in (layout.dtype, output.dtype) else 1)
    parity = _compare(graph, probabilities, images, layout, limit=limit)
    notes = [source.kind, *source.notes, layout.describe(), _tell_scaling(scaling, choices)]
    notes += [f"output {output}: {KINDS[kind] if kind == PROBABILITIES else f'{kind}, {KINDS[kind]}'}"]
    notes += [f"the batch, fixed at {layout.batch}, was made free"] if layout.batch is not None else []
    facts = {
        "scaling": asdict(scaling),
        "layout": {"order": layout.order, "colour": layout.colour},
        "answers": kind,
        "parity": asdict(parity),
    }
    return Converted(graph, parity, tuple(notes), facts)


def _choose_scaling(original: Original, choices: Choices, hints: Part | None) -> Scaling:
    layout = original.layout
    if choices.scaling is not None:
        for name, values in (("--mean", choices.scaling.mean), ("--std", choices.scaling.std)):
            if len(values) not in (1, layout.channels):
                raise Unconvertible(f"{name}: wanted 1 or {layout.channels} numbers, got {len(values)}")
        return choices.scaling
    if layout.dtype == "uint8" or scales_itself(original.source.graph.graph):
        return Scaling()
    raise Unconvertible(
        f"wanted --scale, and --mean and --std where there are any, as in training: the input is {layout.dtype}, and "
        "the file does not say in which range; --scale 1 is 0 to 255, --scale 1/255 is 0 to 1" + _hint(original, hints)
    )


def _require_levels(scaling: Scaling, dtype: str) -> None:
    """Raise Unconvertible if an input of integers would round pixels, or wrap them around."""
    if not scaling.fits(dtype):
        bounds, levels = np.iinfo(dtype), scaling.levels
        raise Unconvertible(
            f"wanted pixels that become whole numbers from {bounds.min} to {bounds.max}, as the input is {dtype}; "
            f"{scaling.flags} makes {levels.min():g} to {levels.max():g}"
        )


def _hint(original: Original, hints: Part | None) -> str:
    """How many labelled images are right with each common range."""
    if hints is None or not len(hints) or original.columns == 1:
        return ""
    images, truth = hints.images[:HINTED], hints.labels[:HINTED]
    lines = []
    for name, scaling in COMMON.items():
        if len(scaling.mean) in (1, original.layout.channels) and scaling.fits(original.layout.dtype):
            share = np.mean(original.run(scaling, images).argmax(axis=1) == truth)
            lines.append(f"\n  {share:.3f} of {len(truth)} images right with {scaling.flags} ({name})")
    return "".join(lines)


def _tell_scaling(scaling: Scaling, choices: Choices) -> str:
    if choices.scaling is not None:
        return f"pixels from 0 to 255 scaled in front, {scaling.flags}"
    return "pixels from 0 to 255, which the model takes as they are"


def _choose_kind(asked: str, outputs: Array, graph: onnx.ModelProto, columns: int) -> str:
    if asked != AUTO:
        if (asked in (SIGMOID, LOGIT)) != (columns == 1):
            raise Unconvertible(f"--answers {asked}: wanted another kind for {columns} outputs")
        require_values(asked, outputs)
        return asked
    kind = name_answers(outputs, graph.graph)
    if kind == SIGMOIDS:
        raise Unconvertible(
            f"the outputs are {columns} sigmoids, which say of each class by itself whether it is there; "
            "--answers sigmoids divides them by their sum, --answers logits takes a softmax"
        )
    return kind


def _compare(graph: onnx.ModelProto, expected: Array, images: Images, layout: Layout, *, limit: float) -> Parity:
    """The parity with the model, also of one image alone with the same one in a batch."""
    try:
        data = graph.SerializeToString()
        found = run_onnx(data, images)
        alone = run_onnx(data, images[:1])
    except Exception as error:  # ONNX Runtime raises a class per fault, without a public base class
        if layout.batch is not None:
            raise Unconvertible(
                f"the batch is fixed at {layout.batch} inside of the model, and could not be made free; {FREE_BATCH}"
            ) from error
        raise Unconvertible(f"ONNX Runtime cannot run the converted graph: {str(error).splitlines()[0]}") from error
    if not np.abs(alone - found[:1]).max() <= limit:
        raise ModelFileError(
            "wanted the same answer to an image in any batch, the model gives another: is it in training mode? "
            "Call eval() before the export"
        )
    parity = measure_parity(expected, found, limit)
    try:
        require_parity(parity)
    except ParityFailed as error:
        if layout.batch is None:
            raise
        raise Unconvertible(f"the batch, fixed at {layout.batch}, could not be made free; {FREE_BATCH}") from error
    return parity
