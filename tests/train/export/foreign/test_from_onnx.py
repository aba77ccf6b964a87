"""`train.export.foreign.from_onnx`: what is no classifier of one image is refused with what was found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support import write_tiny_model
from train.export.foreign.from_onnx import from_onnx
from train.export.foreign.source import Unconvertible

Change = Callable[[onnx.ModelProto], object]


def make_classifier(batch: str | int = "N", opset: int = 17) -> onnx.ModelProto:
    """Mean colours -> logits of three classes: channels first."""
    weights = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def add_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 3]))


def add_custom(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Deform", ["output"], ["bent"], domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def add_loop(model: onnx.ModelProto) -> None:
    """A loop that ends when a value of the picture says so."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    model.graph.node.append(helper.make_node("Loop", ["", "start"], [], name="until-sure", body=body))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "start"))


def make_external(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", location

    return change


def add_function(model: onnx.ModelProto, *attributes: onnx.AttributeProto) -> None:
    """A function of the model's own that leaves scores as they are, with values for attributes."""
    opsets = [helper.make_opsetid("", 17)]
    same = helper.make_node("Identity", ["x"], ["y"])
    function = helper.make_function("own", "Same", ["x"], ["y"], [same], opsets, attribute_protos=list(attributes))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(helper.make_node("Same", ["scores"], ["output"], domain="own"))


def make_external_in(place: str) -> Change:
    """A tensor with its data in ../weights.bin, at a place where tensors are rare."""
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[9], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../weights.bin")
    sparse = onnx.SparseTensorProto(values=tensor, dims=[9])

    def change(model: onnx.ModelProto) -> None:
        attribute = model.graph.node[0].attribute.add(name="far", type=onnx.AttributeProto.TENSORS)
        if place == "tensors":
            attribute.tensors.append(tensor)
        elif place == "sparse tensor":
            attribute.sparse_tensor.CopyFrom(sparse)
        elif place == "sparse weights":
            model.graph.sparse_initializer.append(sparse)
        elif place == "default of a function":
            add_function(model, onnx.AttributeProto(name="far", type=onnx.AttributeProto.TENSOR, t=tensor))

    return change


@pytest.mark.parametrize("place", ["tensors", "sparse tensor", "sparse weights", "default of a function"])
def test_external_data_anywhere_in_a_model_are_refused_outside_its_folder(place: str, tmp_path: Path) -> None:
    model = make_classifier()
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(36))
    make_external_in(place)(model)
    with pytest.raises(Unconvertible, match=r"in a file beside it, the graph names '\.\./weights\.bin'"):
        from_onnx(write(model, tmp_path / "inner"))


def test_a_model_with_a_function_of_its_own_is_taken(tmp_path: Path) -> None:
    model = make_classifier()
    add_function(model)
    images = np.random.default_rng(1).random((2, 3, 8, 8), np.float32)
    expected = from_onnx(write(make_classifier(), tmp_path)).run(images)
    np.testing.assert_array_equal(from_onnx(write(model, tmp_path)).run(images)["output"], expected["output"])


def test_external_data_of_sparse_weights_are_refused(tmp_path: Path) -> None:
    """ONNX loads those of weights and constants alone."""
    model = make_classifier()
    (tmp_path / "inner").mkdir()
    make_external_in("sparse weights")(model)
    model.graph.sparse_initializer[0].values.external_data[0].value = "weights.bin"
    (tmp_path / "inner/weights.bin").write_bytes(bytes(36))
    with pytest.raises(Unconvertible, match=r"of weights and constants alone, others name 'weights\.bin'"):
        from_onnx(write(model, tmp_path / "inner"))


def give_a_sequence(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("SequenceConstruct", ["output"], ["list"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, ["N", 3]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (add_input, r"one input, the images; found 2 inputs: input float32 \[N, 3, 8, 8\], mask float32 \[N, 3\]"),
        (add_custom, "found Deform of com.example: export the model without custom operators"),
        (add_loop, "found the Loop 'until-sure' without one: a request could run for ever"),
        (make_external("../weights.bin"), r"in a file beside it, the graph names '\.\./weights\.bin'"),
        (make_external("/etc/passwd"), "in a file beside it, the graph names '/etc/passwd'"),
        (make_external("gone.bin"), "in a file beside it, the graph names 'gone.bin'"),
        (lambda model: model.graph.node.pop(), "ONNX Runtime cannot load the model"),
    ],
    ids=["two inputs", "custom operator", "endless loop", "parent", "absolute", "absent data", "no maker of output"],
)
def test_a_model_that_cannot_be_served_is_refused(change: Change, sentence: str, tmp_path: Path) -> None:
    model = make_classifier()
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(36))
    change(model)
    with pytest.raises(Unconvertible, match=sentence):
        from_onnx(write(model, tmp_path / "inner"))


def test_a_sequence_is_an_output_without_classes(tmp_path: Path, refuse: Callable[..., str]) -> None:
    model = make_classifier()
    give_a_sequence(model)
    sentence = "wanted an output of classes, float [N, K] with K over 0; found list that is no tensor of any shape"
    assert sentence in refuse(write(model, tmp_path), 3, "--scale", "1")


def test_a_link_beside_the_file_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(36))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights.bin").symlink_to(tmp_path / "secret")
    model = make_classifier()
    make_external("weights.bin")(model)
    with pytest.raises(Unconvertible, match="in a file beside it"):
        from_onnx(write(model, tmp_path / "inner"))


@pytest.mark.parametrize("data", [b"no model at all, but some text", b"\x08\x07"], ids=["text", "no graph"])
def test_bytes_that_are_no_model_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(Unconvertible, match="wanted an ONNX model, got bytes that are none"):
        from_onnx(tmp_path / "model.onnx")


def test_a_model_file_of_ours_is_refused_as_one(tmp_path: Path) -> None:
    with pytest.raises(Unconvertible, match="a model file of Inkling already; serve it as it is"):
        from_onnx(write_tiny_model(tmp_path))


@pytest.mark.parametrize("opset", [9, 11, 21])
def test_operations_of_older_and_newer_opsets_are_taken(opset: int, tmp_path: Path) -> None:
    model = make_classifier(opset=opset)
    model.ir_version = 3 if opset == 9 else 10
    if opset == 9:  # weights were inputs then
        model.graph.input.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, [3, 3]))
    source = from_onnx(write(model, tmp_path))
    assert (source.images.name, source.images.shape) == ("input", (None, 3, 8, 8))
    assert source.parameters == 9
    assert bool(source.notes) is (opset == 9)
    images = np.random.default_rng(1).random((2, 3, 8, 8), np.float32)
    weights = numpy_helper.to_array(make_classifier().graph.initializer[0])
    np.testing.assert_allclose(source.run(images)["output"], images.mean(axis=(2, 3)) @ weights, atol=1e-6)


def add_bad_data(model: onnx.ModelProto) -> None:
    """Trips of a loop whose bytes are no whole number."""
    trips = TensorProto(name="trips", data_type=TensorProto.INT64, dims=[1], raw_data=b"abc")
    model.graph.initializer.append(trips)
    model.graph.node.append(helper.make_node("Loop", ["trips"], ["late"]))


def add_typeless_data(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="trips", dims=[1], raw_data=b"abc"))
    model.graph.node.append(helper.make_node("Loop", ["trips"], ["late"]))


def set_bad_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 77


@pytest.mark.parametrize(
    "change",
    [
        add_bad_data,
        add_typeless_data,
        set_bad_type,
        lambda model: model.graph.node.append(helper.make_node("ZipMap", [], [], domain="ai.onnx.ml")),
        lambda model: model.graph.node.append(helper.make_node("Loop", [], ["late"])),
    ],
    ids=["data", "data without a type", "type", "ZipMap", "Loop"],
)
def test_a_graph_that_is_damaged_is_refused_with_a_sentence(change: Change, tmp_path: Path) -> None:
    model = make_classifier()
    change(model)
    with pytest.raises(Unconvertible, match="got one that is damaged"):
        from_onnx(write(model, tmp_path))
