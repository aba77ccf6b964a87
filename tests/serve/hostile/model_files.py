"""Sealed model files with something odd inside: what a careless or hostile author might hand over."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from serve.model_file.spec import PREFIX, SelfTest, seal
from tests.support import RGB, encode, make_graph, make_spec
from train.export.onnx_file import measure_self_test, seal_model

Change = Callable[[onnx.ModelProto], object]
MANY = 2**62
"""Turns of a loop that do not end."""


def put(folder: Path, name: str, data: bytes, version: int = 1) -> Path:
    """Write a file where a server looks for it."""
    path = folder / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def whole(graph: onnx.ModelProto | None = None, **changes: object) -> bytes:
    """The tiny model, or one with another graph, with its facts changed."""
    graph = graph or make_graph(RGB.shape)
    if "self_test" not in changes:
        changes["self_test"] = measure_self_test(graph, RGB.shape)
    return seal_model(graph, make_spec(**changes))


def with_bytes(old: bytes, new: bytes) -> bytes:
    """The tiny model with bytes exchanged for as many others, and sealed again."""
    data = whole()
    assert len(old) == len(new)
    assert old in data
    return seal(data.replace(old, new))


def with_fact(key: str, text: str) -> bytes:
    """The tiny model with one fact as this text, which need not be JSON."""

    def change(model: onnx.ModelProto) -> None:
        for each in model.metadata_props:
            if each.key == PREFIX + key:
                each.value = text

    return with_change(change)


def with_change(change: Change) -> bytes:
    """The tiny model with its message changed, sealed again."""
    model = onnx.load_from_string(whole())
    change(model)
    return seal(model.SerializeToString())


def nested(depth: int) -> str:
    """A recipe of so many objects inside each other."""
    return '{"a": ' * depth + "1" + "}" * depth


def white_only(graph: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """The tiny graph with nodes that make `changed` of `scores`, in front of the last one."""
    *before, softmax = list(graph.graph.node)
    softmax.input[0] = "changed"
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*before, *nodes, softmax)]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    graph.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return graph


def is_white() -> list[onnx.NodeProto]:
    """Nodes that tell by `white` (bool scalar) whether a batch is all white; a self-test never is."""
    return [
        helper.make_node("ReduceMin", ["scores"], ["lowest"], keepdims=0),
        helper.make_node("Greater", ["lowest", "limit"], ["white"]),
    ]


WHITE_LIMIT = np.float32(9.9)
"""Each score of a white image is 10; those of noise are about 5."""


def turning(turns: str) -> onnx.NodeProto:
    """A loop over the scores that changes nothing."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["still"]), helper.make_node("Identity", ["value"], ["same"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", [turns, "true", "scores"], ["changed"], body=body)


def any_self_test() -> SelfTest:
    """For files whose own answers cannot be had; wide enough for any."""
    return SelfTest(1, ((0.5, 0.25, 0.25),) * 4, 1.0)


def white_image() -> bytes:
    """A white PNG."""
    return encode(Image.new("RGB", (12, 12), "white"))


def endless() -> bytes:
    """Its self-test does not end."""
    graph = white_only(make_graph(RGB.shape), turning("many"), many=np.int64(MANY), true=np.bool_(True))
    return whole(graph, self_test=any_self_test())


def endless_for_white() -> bytes:
    """Its run does not end for a white image."""
    graph = white_only(
        make_graph(RGB.shape),
        *is_white(),
        helper.make_node("Where", ["white", "many", "none"], ["turns"]),
        turning("turns"),
        limit=WHITE_LIMIT,
        many=np.int64(MANY),
        none=np.int64(0),
        true=np.bool_(True),
    )
    return whole(graph)


def nan_for_white() -> bytes:
    """It answers a white image with numbers that are none."""
    graph = white_only(
        make_graph(RGB.shape),
        helper.make_node("Greater", ["scores", "limit"], ["white"]),
        helper.make_node("Where", ["white", "nan", "scores"], ["changed"]),
        limit=WHITE_LIMIT,
        nan=np.float32(np.nan),
    )
    return whole(graph)


def reads(location: str, inside: bool = False) -> bytes:
    """Its weights are in another file: those of the graph, or those of a constant inside a branch."""

    def refer(tensor: onnx.TensorProto) -> None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    def change(model: onnx.ModelProto) -> None:
        if not inside:
            refer(model.graph.initializer[0])
            return
        value = helper.make_tensor("elsewhere", TensorProto.FLOAT, [3], np.zeros(3, np.float32).tobytes(), raw=True)
        refer(value)
        branch = helper.make_graph(
            [helper.make_node("Constant", [], ["there"], value=value)],
            "branch",
            [],
            [helper.make_tensor_value_info("there", TensorProto.FLOAT, [3])],
        )
        node = helper.make_node("If", ["true"], ["unused"], then_branch=branch, else_branch=branch)
        model.graph.node.insert(0, node)
        model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "true"))

    return with_change(change)


def reads_in_a_function(location: str) -> bytes:
    """The value of a function's attribute is in another file."""
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    value = onnx.AttributeProto(name="far", type=onnx.AttributeProto.TENSOR, t=tensor)
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Same", [], [], [], opsets, attribute_protos=[value])
    return with_change(lambda model: model.functions.append(function))


def odd_files() -> dict[str, bytes]:
    """Files that must not be served, by name."""
    labels = {"en": ["a", "b", "\ud800"]}
    return {
        "metadata-not-utf8": with_bytes(b'"none"', b'"\xff\xfe\xfde"'),
        "graph-name-not-utf8": with_bytes(b"\x12\x05bands", b"\x12\x05b\xff\xfe\xfds"),
        "input-not-utf8": with_bytes(b"images", b"im\xff\xfees"),
        "output-not-utf8": with_bytes(b"probabilities", b"prob\xff\xfeilities"),
        "node-not-utf8": with_bytes(b"Softmax", b"Soft\xff\xfex"),
        "label-surrogate": with_fact("labels", json.dumps(labels)),
        "name-surrogate": with_fact("name", json.dumps("\ud800")),
        "policy-surrogate": with_fact("prepare", json.dumps({"policy": "\udfff\n", "version": 1})),
        "created-before-all-years": with_fact("created", json.dumps("0001-01-01T00:00:00+14:00")),
        "created-after-all-years": with_fact("created", json.dumps("9999-12-31T23:59:59-14:00")),
        "recipe-deep": with_fact("recipe", nested(90)),
        "recipe-deeper": with_fact("recipe", nested(100_000)),
        "recipe-long-number": with_fact("recipe", '{"a": ' + "9" * 400 + "}"),
        "recipe-longer-number": with_fact("recipe", '{"a": ' + "9" * 10_000 + "}"),
        "recipe-no-number": with_fact("recipe", '{"a": NaN}'),
        "recipe-endless-number": with_fact("recipe", '{"a": 1e999}'),
        "recipe-not-json": with_fact("recipe", "{"),
        "accuracy-no-number": with_fact("test_accuracy", "NaN"),
        "shape-huge": with_fact("input", '{"shape": [2147483647, 2147483647, 3], "dtype": "uint8", "colour": "rgb"}'),
        "self-test-nothing": with_fact("self_test", '{"seed": 1, "probabilities": [], "tolerance": 0.1}'),
        "external": reads("passwd"),
        "external-inside": reads("etc/passwd", inside=True),
        "external-function": reads_in_a_function("etc/passwd"),
        "not-onnx": b"text",
        "empty": b"",
    }
