"""`python -m tests.fuzz.corpus FOLDER`: the good files that mutations begin with, made here so that none is committed.

Enters: the registered formats and policies, the messages of all services. Leaves: image files, requests, model files.
Does not know: mutations. A format or a policy that is registered later comes in by itself.
"""

import inspect
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from onnx import TensorProto, helper
from PIL import AvifImagePlugin, ExifTags, Image

from serve.api import inkling_v1
from serve.api.open_inference import service as open_inference
from serve.errors import UnknownPolicy
from serve.images.decode import PLUGINS
from serve.images.pixels import Policy
from serve.images.policies.find import POLICIES, find_policy
from serve.model_file.spec import COLOUR_CHANNELS, InputSpec, PrepareSpec, SelfTest
from serve.pb import classifier_pb2, open_inference_pb2
from tests.serve.api.messages import make_files, make_pixels, pack
from tests.support import ROOT, encode, make_graph, make_spec
from train.export.onnx_file import measure_self_test, seal_model

SIDE = 12
"""Pixels of a side of the tiny models' inputs."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I", "F")
WAYS: dict[str, tuple[dict[str, object], ...]] = {
    "PNG": ({"bits": 2}, {"compress_level": 0}, {"transparency": 0}),
    "JPEG": ({"progressive": True}, {"quality": 100, "subsampling": 0}, {"comment": b"words"}),
    "GIF": ({"interlace": 0}, {"transparency": 1}),
    "WEBP": ({"lossless": False}, {"lossless": False, "quality": 1, "method": 0}),
}
"""Options of Pillow by format, each for a file of its own; a format that is not here is written without any."""
LARGEST_SAMPLE_BYTES = 40_000
CANDIDATES = (8, 1, 0.5, True, "rgb", "frame", "bilinear", 16, (1, 1))
"""Values for the parameters of a policy that needs some."""


class Named(NamedTuple):
    """A registered policy with parameters that it takes, for a tiny model's input."""

    prepare: PrepareSpec
    input: InputSpec

    @property
    def name(self) -> str:
        """As users see it, and the colour of its pixels."""
        return f"{self.prepare.policy}/{self.prepare.version} {self.input.colour}"

    def make(self) -> Policy:
        """The policy itself."""
        return find_policy(self.prepare, self.input)


def policies() -> Iterator[Named]:
    """Every registered policy. Raises AssertionError for one whose parameters are not among the candidates."""
    for (name, version, colour), make in POLICIES.items():
        target = InputSpec((SIDE, SIDE, COLOUR_CHANNELS[colour]), "uint8", colour)
        wanted = [
            parameter.name
            for parameter in inspect.signature(make).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        ]
        for values in itertools.product(CANDIDATES, repeat=len(wanted)):
            named = Named(PrepareSpec(name, version, dict(zip(wanted, values, strict=True))), target)
            try:
                named.make()
            except UnknownPolicy:
                continue
            yield named
            break
        else:
            raise AssertionError(f"wanted values for {wanted} of {name}/{version} in tests/fuzz/corpus.py")


@cache
def image_files() -> dict[str, bytes]:
    """Image files by name: each registered format in each mode and way, with tags and frames, and the samples."""
    files: dict[str, bytes] = {}
    for plugin in (*(plugin for _, plugin in PLUGINS), AvifImagePlugin.AvifImageFile):
        for mode, way in itertools.product(MODES, ({}, *WAYS.get(plugin.format, ()))):
            try:
                picture = _picture(24, 20).convert("I" if mode == "I;16" else mode).convert(mode)
                files[f"{plugin.format} {mode} {way}"] = encode(picture, plugin.format, **way)
            except (OSError, ValueError, KeyError):  # a mode or a way that the format does not have
                continue
        for turn in (2, 6, 8):
            files[f"{plugin.format} turned {turn}"] = _turned(plugin.format, turn)
        for name, size in (("frames", (8, 8)), ("wide", (700, 3)), ("large", (600, 400))):
            way = _frames(plugin.format) if name == "frames" else {}
            files[f"{plugin.format} {name}"] = encode(_picture(*size).convert("RGB"), plugin.format, **way)
    for path in sorted((ROOT / "samples").rglob("*.*")):
        if path.suffix not in {".md", ".py"} and path.stat().st_size <= LARGEST_SAMPLE_BYTES:
            files[path.name] = path.read_bytes()
    return files


def methods() -> list[MethodDescriptor]:
    """Every method of both protocols."""
    return [*inkling_v1.SERVICE.methods, *open_inference.SERVICE.methods]


def requests(method: MethodDescriptor) -> list[Message]:
    """Good requests of a method; an empty one where nothing better is known."""
    kind = GetMessageClass(method.input_type)
    small = [data for data in image_files().values() if len(data) < 4_000][:40]
    if kind is open_inference_pb2.ModelInferRequest:
        return [make_pixels(), make_pixels(count=3), *(make_files(pack(*small[:n]), n) for n in (1, 3))]
    found: list[Message] = []
    for data in small[::8]:
        message = kind()
        fields = {field.name: field for field in kind.DESCRIPTOR.fields}
        for name in ("model", "model_name", "name"):
            if name in fields and fields[name].type == fields[name].TYPE_STRING:
                setattr(message, name, "bands" if len(found) % 2 else "grey-bands")
        if "image" in fields:
            message.image = data  # type: ignore[attr-defined]
        if "images" in fields:
            message.images.extend([data, *small[:2]])  # type: ignore[attr-defined]
        if "options" in fields and fields["options"].message_type.name == "ClassifyOptions":
            options = classifier_pb2.ClassifyOptions(
                top_k=2, language_code="ru", return_prepared=True, return_steps=True
            )
            message.options.CopyFrom(options)  # type: ignore[attr-defined]
        found.append(message)
    return found


@cache
def model_files() -> dict[str, bytes]:
    """A tiny sealed model for each registered policy, by the policy's name."""
    files = {}
    for named in policies():
        graph = make_graph(named.input.shape)
        spec = replace(make_spec(), input=named.input, prepare=named.prepare)
        spec = replace(spec, self_test=measure_self_test(graph, named.input.shape))
        files[named.name] = seal_model(graph, spec)
    return files


def sized_model(side: int, rows: int) -> bytes:
    """A small file whose input has sides of this length, and whose self-test has so many rows."""
    shape = (side, side, 3)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["images"], ["largest"], axes=[1, 2], keepdims=0),
            helper.make_node("Cast", ["largest"], ["scores"], to=TensorProto.FLOAT),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "largest",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    test = SelfTest(1, ((0.5, 0.25, 0.25),) * rows, 1.0)
    return seal_model(model, make_spec(input=InputSpec(shape, "uint8", "rgb"), self_test=test))


def _picture(width: int, height: int) -> Image.Image:
    """Noise over a slope, with a transparent corner."""
    random = np.random.default_rng(width * height)
    pixels = random.integers(0, 60, (height, width, 4)) + np.arange(width)[:, None] * 190 // width
    pixels[..., 3] = 255
    pixels[: height // 3, : width // 3, 3] = 40
    return Image.fromarray(pixels.astype(np.uint8))


def _turned(format_name: str, turn: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    exif[ExifTags.Base.Artist] = "nobody"
    return encode(_picture(20, 10).convert("RGB"), format_name, exif=exif.tobytes())


def _frames(format_name: str) -> dict[str, object]:
    if format_name not in Image.SAVE_ALL:
        return {}
    return {"save_all": True, "append_images": [_picture(8, 8).convert("RGB")] * 3}


def main(folder: Path) -> None:
    """Write all of it, to look at."""
    written = {f"image {name}": data for name, data in image_files().items()}
    written |= {f"model {name}.onnx": data for name, data in model_files().items()}
    for method in methods():
        for index, message in enumerate(requests(method)):
            written[f"request {method.full_name} {index}"] = message.SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in written.items():
        (folder / name.replace("/", "-")).write_bytes(data)
    print(f"{len(written)} files in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
