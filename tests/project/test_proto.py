"""proto/: the committed stubs are generated from the .proto, and every element of it has a comment."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.rpc import status_pb2

from serve.pb import classifier_pb2, open_inference_pb2
from tests.support import ROOT

SOURCE = "inkling/v1/classifier.proto"
OPEN_INFERENCE = "open_inference/open_inference.proto"
STUBS = [f"{name}_{kind}" for name in ("classifier", "open_inference") for kind in ("pb2.py", "pb2.pyi", "pb2_grpc.py")]
DESCRIPTOR = classifier_pb2.DESCRIPTOR
(SERVICE,) = DESCRIPTOR.services_by_name.values()
METHODS = list(SERVICE.methods)

with_protoc = pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None, reason="needs grpcio-tools, from the extra [test]"
)

KNOWN = {
    SOURCE: {f"{SOURCE}.ClassifierService", "ClassifierService.Classify", "Classification.classes"},
    OPEN_INFERENCE: {"GRPCInferenceService.ModelInfer", "InferInputTensor.shape", "Format.FORMAT_NHWC"},
}
"""Some elements of each file that `walk` has to find."""

Parts = DescriptorProto | EnumDescriptorProto | FileDescriptorProto | ServiceDescriptorProto
Place = tuple[int, ...]
# The parts of each kind of element, by their names in google/protobuf/descriptor.proto.
CONTENTS = {
    "FileDescriptorProto": ("service", "message_type", "enum_type"),
    "ServiceDescriptorProto": ("method",),
    "DescriptorProto": ("field", "oneof_decl", "nested_type", "enum_type"),
    "EnumDescriptorProto": ("value",),
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of newly generated stubs."""
    folder = tmp_path_factory.mktemp("pb")
    subprocess.run([sys.executable, ROOT / "proto/generate.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module", params=[SOURCE, OPEN_INFERENCE])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorProto:
    """A .proto as the compiler reads it, with the comments and where everything stands."""
    written = tmp_path_factory.mktemp("descriptor") / "set"
    includes = (ROOT / "proto", files("grpc_tools") / "_proto", Path(status_pb2.__file__).parents[2])
    command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{include}" for include in includes)]
    command += ["--include_source_info", f"--descriptor_set_out={written}", request.param]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = FileDescriptorSet.FromString(written.read_bytes()).file
    return file


def walk(element: Parts, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """The path in the source info and the name of every element inside an element."""
    kind = element.DESCRIPTOR
    for contents in CONTENTS.get(kind.name, ()):
        for index, part in enumerate(getattr(element, contents)):
            if part.DESCRIPTOR.name == "DescriptorProto" and part.options.map_entry:
                continue  # made by the compiler
            if part.DESCRIPTOR.name == "OneofDescriptorProto" and part.name.startswith("_"):
                continue  # made by the compiler, of an optional field
            inside = (*place, kind.fields_by_name[contents].number, index)
            yield inside, f"{element.name}.{part.name}"
            yield from walk(part, inside)


@with_protoc
@pytest.mark.parametrize("stub", STUBS)
def test_the_committed_stubs_are_those_of_the_proto(generated: Path, stub: str) -> None:
    assert (ROOT / "serve/pb" / stub).read_text() == (generated / stub).read_text(), "run: make proto"


@with_protoc
def test_every_committed_stub_is_generated(generated: Path) -> None:
    assert sorted(path.name for path in generated.iterdir()) == STUBS
    committed = {path.name for path in (ROOT / "serve/pb").iterdir() if path.is_file()}
    assert committed == {*STUBS, "__init__.py"}


def test_the_descriptor_has_the_name_that_a_users_stubs_give_it() -> None:
    """A process crashes if it has both stubs and their names for the file differ."""
    assert DESCRIPTOR.name == SOURCE


def test_the_open_inference_package_and_service_have_the_protocols_names() -> None:
    """Clients send these names, whatever the folder is called."""
    file = open_inference_pb2.DESCRIPTOR
    assert (file.name, file.package) == (OPEN_INFERENCE, "inference")
    assert list(file.services_by_name) == ["GRPCInferenceService"]


def test_the_package_is_its_folder() -> None:
    assert DESCRIPTOR.package == "inkling.v1"
    assert SOURCE.rpartition("/")[0] == DESCRIPTOR.package.replace(".", "/")


@with_protoc
def test_every_element_has_a_comment(source: FileDescriptorProto) -> None:
    commented = {tuple(each.path) for each in source.source_code_info.location if each.leading_comments.strip()}
    elements = dict(walk(source))
    assert KNOWN[source.name] <= set(elements.values())
    assert [name for place, name in elements.items() if place not in commented] == []


@with_protoc
def test_comments_are_sentences(source: FileDescriptorProto) -> None:
    comments = [each.leading_comments.strip() for each in source.source_code_info.location if each.leading_comments]
    assert [comment for comment in comments if not comment.endswith(".")] == []


@with_protoc
def test_the_service_comes_first(source: FileDescriptorProto) -> None:
    lines = {tuple(each.path): each.span[0] for each in source.source_code_info.location}
    first, *others = sorted((lines[place], name) for place, name in walk(source) if len(place) == 2)
    assert first[1] == f"{source.name}.{source.service[0].name}"
    assert others


def test_the_only_service_is_the_classifier_service() -> None:
    assert SERVICE.full_name == "inkling.v1.ClassifierService"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_has_its_own_request_and_response(method: MethodDescriptor) -> None:
    assert method.input_type.full_name == f"inkling.v1.{method.name}Request"
    assert method.output_type.full_name == f"inkling.v1.{method.name}Response"
    streams = method.name.startswith("Stream")
    assert (method.client_streaming, method.server_streaming) == (streams, streams)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_methods_that_classify_take_the_same_options(method: MethodDescriptor) -> None:
    fields = method.input_type.fields_by_name
    if "Classify" in method.name:
        assert fields["options"].message_type.full_name == "inkling.v1.ClassifyOptions"
    else:
        assert "options" not in fields
