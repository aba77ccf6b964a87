"""serve.inference.engine: a file that is not right is refused with the reason; one that only looks so is not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from serve.errors import CorruptModelFile, InvalidMetadata, ModelFileError, SelfTestFailed
from serve.inference.engine import load
from serve.model_file.spec import OUTPUT, PREFIX, SEAL_KEY, UNSEALED, InputSpec, SelfTest, seal
from tests.serve.inference.test_engine import CPU, SHAPE, draw_images
from tests.support import make_graph, make_spec
from train.export.onnx_file import measure_self_test, seal_model

Change = Callable[[onnx.ModelProto], object]
Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes the bytes of a model file."""

    def write_bytes(data: bytes) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        return path

    return write_bytes


def change_and_seal(data: bytes, change: Change) -> bytes:
    """A model file that was changed by somebody who knows how to seal it again."""
    model = onnx.load_from_string(data)
    change(model)
    return seal(model.SerializeToString())


def test_a_flipped_byte_in_the_weights_is_refused_as_damage(model_file: Path, write: Write) -> None:
    data = bytearray(model_file.read_bytes())
    weights = onnx.load(model_file).graph.initializer[0].raw_data
    data[data.index(weights) + 7] ^= 0xFF
    with pytest.raises(CorruptModelFile, match="changed or damaged after export"):
        load(write(bytes(data)), CPU)


def test_a_missing_key_is_refused_with_its_name(model_file: Path, write: Write) -> None:
    def drop_labels(model: onnx.ModelProto) -> None:
        kept = [each for each in model.metadata_props if each.key != PREFIX + "labels"]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    data = change_and_seal(model_file.read_bytes(), drop_labels)
    with pytest.raises(InvalidMetadata, match=r"the file lacks the metadata key inkling\.labels"):
        load(write(data), CPU)


def test_other_answers_than_at_export_are_refused_with_the_difference(write: Write) -> None:
    graph = make_graph(SHAPE)
    right = measure_self_test(graph, SHAPE)
    last = right.probabilities[-1]
    wrong = replace(right, probabilities=(*right.probabilities[:-1], (last[0] + 0.01, *last[1:])))
    with pytest.raises(SelfTestFailed, match=r"within 0\.005, got a difference of 0\.01 on cpu in float32"):
        load(write(seal_model(graph, make_spec(self_test=wrong))), CPU)


def test_weights_other_than_at_export_fail_the_self_test_even_when_sealed(model_file: Path, write: Write) -> None:
    def scale(model: onnx.ModelProto) -> None:
        weights = numpy_helper.to_array(model.graph.initializer[0])
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights * np.float32(1.5), "weights"))

    with pytest.raises(SelfTestFailed, match="wanted the self-test's probabilities"):
        load(write(change_and_seal(model_file.read_bytes(), scale)), CPU)


def test_probabilities_that_are_not_numbers_fail_the_self_test(model_file: Path, write: Write) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        weights = numpy_helper.to_array(model.graph.initializer[0]) * np.float32(np.nan)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))

    with pytest.raises(SelfTestFailed, match="got a difference of nan"):
        load(write(change_and_seal(model_file.read_bytes(), spoil)), CPU)


def rename_input(model: onnx.ModelProto) -> None:
    """`pixels` instead of `images`."""
    model.graph.input[0].name = model.graph.node[0].input[0] = "pixels"


def rename_output(model: onnx.ModelProto) -> None:
    """`scores` instead of `probabilities`."""
    model.graph.output[0].name = model.graph.node[-1].output[0] = "answers"


def fix_batch(model: onnx.ModelProto) -> None:
    """Images by the four, as many as the self-test has."""
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_input, r"wanted the one input images tensor\(uint8\) \[N, 12, 12, 3\], the graph has pixels "),
        (rename_output, r"wanted an output probabilities tensor\(float\) \[N, 3\], the graph has answers "),
        (fix_batch, r"the graph has images tensor\(uint8\) \[4, 12, 12, 3\]"),
    ],
)
def test_a_graph_of_another_signature_is_refused_with_both(
    model_file: Path, write: Write, change: Change, message: str
) -> None:
    with pytest.raises(InvalidMetadata, match=message):
        load(write(change_and_seal(model_file.read_bytes(), change)), CPU)


@pytest.mark.parametrize("batch", ["batch_size", ""])
def test_an_open_batch_may_have_any_name_or_none(model_file: Path, write: Write, batch: str) -> None:
    def rename(model: onnx.ModelProto) -> None:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_param = batch

    engine = load(write(change_and_seal(model_file.read_bytes(), rename)), CPU)
    assert engine.run(draw_images(3))[OUTPUT].shape == (3, 3)


def test_an_input_of_another_shape_than_the_metadata_say_is_refused(write: Write) -> None:
    spec = make_spec(input=InputSpec((24, 12, 3), "uint8", "rgb"))
    with pytest.raises(InvalidMetadata, match=r"\[N, 24, 12, 3\], the graph has images tensor\(uint8\) \[N, 12, 12, 3"):
        load(write(seal_model(make_graph(SHAPE), spec)), CPU)


def test_fewer_probabilities_than_labels_are_refused(write: Write) -> None:
    spec = make_spec(labels={"en": ("a", "b", "c", "d")}, self_test=SelfTest(0, ((0.25,) * 4,), 1e-3))
    with pytest.raises(InvalidMetadata, match=r"wanted an output .*\[N, 4\], the graph has .*\[N, 3\]"):
        load(write(seal_model(make_graph(SHAPE), spec)), CPU)


def insert_before_scores(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes that make `changed` of `flat` in front of the product with the weights."""
    cast, flatten, product, softmax = model.graph.node
    product.input[0] = "changed"
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (cast, flatten, *nodes, product, softmax)]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def need_six_images(model: onnx.ModelProto) -> None:
    """Add the sixth image of a batch to each: the self-test has only four."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([5]), "sixth"))
    insert_before_scores(
        model,
        helper.make_node("Gather", ["flat", "sixth"], ["row"], axis=0),
        helper.make_node("Add", ["flat", "row"], ["changed"]),
    )


def need_four_images(model: onnx.ModelProto) -> None:
    """Look at the fourth image of a batch, and change nothing."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([3]), "fourth"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    insert_before_scores(
        model,
        helper.make_node("Gather", ["flat", "fourth"], ["row"], axis=0),
        helper.make_node("Mul", ["row", "nothing"], ["zeros"]),
        helper.make_node("Add", ["flat", "zeros"], ["changed"]),
    )


def test_a_graph_that_breaks_off_while_warming_up_is_refused_as_a_file(model_file: Path, write: Write) -> None:
    """Its self-test is four images, and passes."""
    engine = load(write(change_and_seal(model_file.read_bytes(), need_four_images)), CPU)
    with pytest.raises(ModelFileError, match=r"a run of 1 images on cpu broke off while warming up: .*Gather"):
        engine.warm_up()


def drop_fourth_image(model: onnx.ModelProto) -> None:
    """Answer the first three images of a batch."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([True] * 3), "kept"))
    insert_before_scores(model, helper.make_node("Compress", ["flat", "kept"], ["changed"], axis=0))


@pytest.mark.parametrize(
    ("change", "message"), [(need_six_images, "Gather"), (drop_fourth_image, r"shapes \(3,3\) \(4,3\)")]
)
def test_a_graph_whose_self_test_breaks_off_is_refused_with_what_broke_it(
    model_file: Path, write: Write, change: Change, message: str
) -> None:
    """The signature of these is right: only a run shows what is wrong."""
    with pytest.raises(SelfTestFailed, match=f"the self-test broke off on cpu: .*{message}"):
        load(write(change_and_seal(model_file.read_bytes(), change)), CPU)


@pytest.mark.parametrize("data", [b"", b"a text file", b"\x08\x08" + bytes(500)], ids=["empty", "text", "bytes"])
def test_a_file_that_training_did_not_write_is_refused(write: Write, data: bytes) -> None:
    with pytest.raises(InvalidMetadata, match=f"lacks the metadata key {SEAL_KEY}"):
        load(write(data), CPU)


def test_sealed_garbage_is_refused(write: Write) -> None:
    data = seal(b"no graph" + f'{SEAL_KEY}\x12\x42"{UNSEALED}"'.encode() + b"none here either")
    with pytest.raises(ModelFileError, match="wanted an ONNX model, got bytes that are none"):
        load(write(data), CPU)


def test_a_graph_with_an_unknown_operator_is_refused_by_onnxruntime(model_file: Path, write: Write) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[-1].op_type = "HardestMax"

    with pytest.raises(ModelFileError, match=r"ONNX Runtime cannot load it: .*HardestMax"):
        load(write(change_and_seal(model_file.read_bytes(), rename)), CPU)


def test_a_refused_file_prints_nothing(model_file: Path, write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime would print its own words about a fault whose text is no UTF-8, beside the log."""

    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "nnnn"

    data = change_and_seal(model_file.read_bytes(), rename).replace(b"nnnn", b"\xff\xff\xff\xff")
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load it"):
        load(write(seal(data)), CPU)
    assert capfd.readouterr() == ("", "")
