"""A model.onnx and training images -> a smaller and faster file beside it, in float16 or int8.

Enters: a folder with a model.onnx, and the dataset that it was trained on. Leaves: model.float16.onnx or
model.int8.onnx with its own test accuracy, its distance from the float32 file, and its own self-test.
Does not know: Keras. It works on the ONNX graph.
"""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from onnxruntime.transformers import float16

from serve.errors import ModelFileError
from serve.model_file.spec import ModelSpec
from train.data.datasets import Dataset
from train.evaluation.metrics import measure_accuracy
from train.export.familiarity.fit import FamiliarityImages, add_familiarity
from train.export.familiarity.nodes import remove_familiarity
from train.export.graph import restore
from train.export.measure.parity import measure_parity
from train.export.onnx_file import measure_self_test, read_model_file, run_onnx, write_model_file
from train.export.passes.cascade import split
from train.export.passes.second_view import add_second_view, remove_second_view
from train.export.quantize import make_int8

CALIBRATION_COUNT = 1000  # training images that the ranges of int8 are measured on
CALIBRATION_SEED = 0
LEAST_OPSET, OPSET = 13, 17  # the first with scales for each channel; what older operations are converted to
# Of a probability in the self-test: another processor rounds differently, above all without VNNI.
TOLERANCES = {"float16": 0.02, "int8": 0.1}


def make_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert weights and arithmetic to 16 bits. The output stays float32, and so does the scaling of pixels."""
    # Before opset 19, DequantizeLinear gives only float32.
    in_float32 = [*float16.DEFAULT_OP_BLOCK_LIST, "DequantizeLinear"]
    converted: onnx.ModelProto = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=in_float32)
    return converted


def write_variant(
    folder: Path, precision: str, dataset: Dataset, familiarity: FamiliarityImages | None = None
) -> ModelSpec:
    """Write `folder`/model.<precision>.onnx from `folder`/model.onnx, and measure it on the whole test set.

    A test set whose labels are -1 is compared on alone. The output `familiarity` is fitted anew to the `familiarity`
    images, for fewer bits change the features. Raises ModelFileError if model.onnx is damaged, if it has that output
    and there are no images for it, or if its operations are too old for int8.
    """
    data, spec = read_model_file(folder / "model.onnx")
    variant = convert(onnx.load_from_string(data), precision, dataset)
    if spec.familiarity is not None:
        if familiarity is None:
            raise ModelFileError("wanted images for the familiarity that model.onnx has, got none")
        variant, fitted = add_familiarity(variant, familiarity, spec.input, spec.prepare)
        spec = dataclasses.replace(spec, familiarity=fitted)
    expected = run_onnx(data, dataset.test.images)
    found = run_onnx(variant.SerializeToString(), dataset.test.images)
    parity = measure_parity(expected, found)
    truth = dataset.test.labels
    is_labelled = bool((truth >= 0).all())
    spec = dataclasses.replace(
        spec,
        precision=precision,
        test_accuracy=measure_accuracy(found, truth) if is_labelled else 0.0,
        test_count=len(truth) if is_labelled else 0,
        recipe={**spec.recipe, "variant_parity": dataclasses.asdict(parity)},
        created=datetime.now(UTC).replace(microsecond=0),
        self_test=dataclasses.replace(measure_self_test(variant, spec.input.shape), tolerance=TOLERANCES[precision]),
    )
    write_model_file(variant, spec, folder, f"model.{precision}.onnx")
    return spec


def convert(model: onnx.ModelProto, precision: str, dataset: Dataset) -> onnx.ModelProto:
    """Convert a graph to `float16` or `int8`, without metadata. int8 takes ranges from training images.

    A second view is taken away before and added afterwards, so that both views have the same converted weights. Raises
    ModelFileError for a cascade, whose nets are converted before they are joined.
    """
    if split(model):
        raise ModelFileError(
            "wanted a file of one net, found a cascade; convert both nets, and join the converted ones"
        )
    bare, below = remove_second_view(remove_familiarity(restore(model)))
    del bare.metadata_props[:]
    if precision == "float16":
        converted = make_float16(bare)
    else:
        chosen = np.random.default_rng(CALIBRATION_SEED).permutation(len(dataset.train))[:CALIBRATION_COUNT]
        converted = make_int8(raise_opset(bare), dataset.train.images[chosen])
    return converted if below is None else add_second_view(converted, below)


def raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose operations can be quantized a channel at a time. Raises ModelFileError."""
    version = next(entry.version for entry in model.opset_import if entry.domain == "")
    if version >= LEAST_OPSET:
        return model
    try:
        raised: onnx.ModelProto = onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises any kind of exception
        raise ModelFileError(
            f"int8: wanted operations of opset {LEAST_OPSET} or newer, got {version}, that no converter takes; "
            "export the model anew"
        ) from error
    return raised
