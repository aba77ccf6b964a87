"""`python -m train.variants FOLDER --precision int8`: a shipped model.onnx -> a smaller and faster file beside it.

Enters: a folder with a model.onnx, and the dataset that it was trained on. Leaves: model.float16.onnx or
model.int8.onnx with its own test accuracy, its distance from the float32 file, and its own self-test.
Does not know: Keras; it works on the ONNX graph alone.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reads it once, at import

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.transformers import float16

from serve.errors import InklingError
from serve.model_file import ModelSpec, SelfTest
from train.data import Dataset, Images, load
from train.evaluate import measure_accuracy
from train.export import measure_parity
from train.flags import add_data_flag
from train.halve import restore
from train.onnx_file import measure_self_test, read_model_file, run_onnx, write_model_file

CALIBRATION_COUNT = 1000
CALIBRATION_SEED = 0
# What a processor may round otherwise than the one that exported: int8 kernels differ where VNNI is missing.
TOLERANCES = {"float16": 0.02, "int8": 0.1}

# What computes in 8 bits: the products, and what hands their values on. Elsewhere it saves nothing.
QUANTIZED = ("Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Reshape", "Transpose")


class CalibrationImages(quantization.CalibrationDataReader):
    """Training images, a batch at a time, for ONNX Runtime to measure the range of every activation."""

    def __init__(self, images: Images, batch: int = 100) -> None:
        self._batches: Iterator[Images] = iter(np.array_split(images, max(1, len(images) // batch)))

    def get_next(self) -> dict[str, Images] | None:
        """The next batch as the session's input, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def make_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in 16 bits; the output stays float32, and so does what pixels become at first."""
    # Before opset 19 DequantizeLinear makes nothing else.
    in_float32 = [*float16.DEFAULT_OP_BLOCK_LIST, "DequantizeLinear"]
    converted: onnx.ModelProto = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=in_float32)
    return converted


def make_int8(model: onnx.ModelProto, calibration: Images) -> onnx.ModelProto:
    """Static quantization in QDQ form, weights per channel, ranges from calibration images uint8 [N, H, W, C].

    The logits and the softmax stay float32: they cost nothing, and probabilities in steps of 1/256 do not sum to 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, ready, small = (str(Path(folder, name)) for name in ("whole.onnx", "ready.onnx", "small.onnx"))
        onnx.save(model, whole)
        quantization.quant_pre_process(whole, ready, skip_symbolic_shape=True)
        prepared = onnx.load(ready)
        name_nodes(prepared.graph)
        onnx.save(prepared, ready)
        quantization.quantize_static(
            ready,
            small,
            CalibrationImages(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=find_head(prepared.graph),
        )
        return onnx.load(small)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give a name to every node without one: quantization leaves nodes out by name, and "" is the name of many."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def find_head(graph: onnx.GraphProto) -> list[str]:
    """The names of the softmax and of what makes its logits: back to the nearest product with weights."""
    makers = {output: node for node in graph.node for output in node.output}
    head = [node for node in graph.node if node.op_type == "Softmax"][-1:]
    while head and head[-1].op_type not in ("Gemm", "MatMul") and head[-1].input[0] in makers:
        head.append(makers[head[-1].input[0]])
    return [node.name for node in head]


def write_variant(folder: Path, precision: str, dataset: Dataset) -> ModelSpec:
    """Write `folder`/model.<precision>.onnx from `folder`/model.onnx, measured over the whole test set.

    Raises ModelFileError where that is no whole file.
    """
    data, spec = read_model_file(folder / "model.onnx")
    variant = convert(onnx.load_from_string(data), precision, dataset)
    expected = run_onnx(data, dataset.test_images)
    found = run_onnx(variant.SerializeToString(), dataset.test_images)
    parity = measure_parity(expected, found)
    spec = dataclasses.replace(
        spec,
        precision=precision,
        test_accuracy=measure_accuracy(found, dataset.test_labels),
        test_count=len(dataset.test_labels),
        recipe={**spec.recipe, "variant_parity": dataclasses.asdict(parity)},
        created=datetime.now(UTC).replace(microsecond=0),
        self_test=_measure_self_test(variant, spec, precision),
    )
    write_model_file(variant, spec, folder, f"model.{precision}.onnx")
    return spec


def convert(model: onnx.ModelProto, precision: str, dataset: Dataset) -> onnx.ModelProto:
    """The graph in another precision, without metadata."""
    bare = restore(model)
    del bare.metadata_props[:]
    if precision == "float16":
        return make_float16(bare)
    chosen = np.random.default_rng(CALIBRATION_SEED).permutation(len(dataset.train_images))[:CALIBRATION_COUNT]
    return make_int8(bare, dataset.train_images[chosen])


def _measure_self_test(variant: onnx.ModelProto, spec: ModelSpec, precision: str) -> SelfTest:
    return dataclasses.replace(measure_self_test(variant, spec.input.shape), tolerance=TOLERANCES[precision])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 with the accuracy and the distance printed, 1 where the file or the dataset cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m train.variants", description="Write a model file in fewer bits.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the version's folder, as models/cifar10-cnn/1")
    parser.add_argument("--precision", choices=tuple(TOLERANCES), required=True)
    add_data_flag(parser)
    options = parser.parse_args(arguments)
    try:
        _, before = read_model_file(options.folder / "model.onnx")
        after = write_variant(options.folder, options.precision, load(before.dataset, options.data))
    except (InklingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    parity = after.recipe["variant_parity"]
    print(f"test accuracy {after.test_accuracy:.4f}, of the float32 file {before.test_accuracy:.4f}")
    print(f"largest difference of a probability {parity['largest_difference']:.3g}")
    print(f"wrote {options.folder / f'model.{options.precision}.onnx'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
