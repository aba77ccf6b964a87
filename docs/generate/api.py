"""The gRPC API, from the .proto and its comments.

Enters: nothing. Leaves: a section for each service and each message. Does not know: how a server answers.
The comments reach the compiler's description of a file only if it is asked for them, so protoc runs again here.
"""

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.rpc import status_pb2

from docs.generate.markdown import code, escape, make_table

ROOT = Path(__file__).parents[2]
MESSAGE, SERVICE, FIELD, METHOD, SYNTAX = 4, 6, 2, 2, 12
"""Numbers in google/protobuf/descriptor.proto: they are the steps of a path to an element's comment."""

Comments = dict[tuple[int, ...], str]


def write_api(source: str) -> str:
    """The sections of one .proto, by its path under proto/: `inkling/v1/classifier.proto`."""
    file = read_description(source)
    comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
    services = [write_service(each, comments, (SERVICE, at)) for at, each in enumerate(file.service)]
    messages = [write_message(each, comments, (MESSAGE, at)) for at, each in enumerate(file.message_type)]
    return "\n\n".join([write_paragraphs(comments[SYNTAX,]), *services, *messages])


def read_description(source: str) -> FileDescriptorProto:
    """A .proto as the compiler sees it, with its comments."""
    includes = (ROOT / "proto", files("grpc_tools") / "_proto", Path(status_pb2.__file__).parents[2])
    with tempfile.NamedTemporaryFile() as written:
        command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{include}" for include in includes)]
        command += ["--include_source_info", f"--descriptor_set_out={written.name}", source]
        subprocess.run(command, check=True)  # noqa: S603  # our own compiler on our own file
        (file,) = FileDescriptorSet.FromString(Path(written.name).read_bytes()).file
    return file


def write_service(service: ServiceDescriptorProto, comments: Comments, path: tuple[int, ...]) -> str:
    """A service and its methods."""
    parts = [f"## {service.name}", write_paragraphs(comments[path])]
    for at, method in enumerate(service.method):
        names = (name.rpartition(".")[2] for name in (method.input_type, method.output_type))
        links = " → ".join(f"[{name}](#{name.lower()})" for name in names)
        parts += [f"### {method.name}", links, write_paragraphs(comments[*path, METHOD, at])]
    return "\n\n".join(parts)


def write_message(message: DescriptorProto, comments: Comments, path: tuple[int, ...]) -> str:
    """A message and its fields."""
    parts = [f"## {message.name}", write_paragraphs(comments[path])]
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    rows = [
        (code(field.name), str(field.number), write_type(field, maps), escape(comments[*path, FIELD, at]))
        for at, field in enumerate(message.field)
    ]
    if rows:
        parts.append(make_table(("field", "number", "type", "meaning"), rows))
    return "\n\n".join(parts)


def write_type(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    """A field's type as the .proto writes it; a message of ours is a link."""
    name = field.type_name.removeprefix(".")
    short = name.rpartition(".")[2]
    if short in maps:
        key, value = (write_type(each, {}) for each in maps[short].field)
        return f"map from {key} to {value}"
    repeated = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    if not name:
        return repeated + code(FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower())
    return repeated + (f"[{short}](#{short.lower()})" if name.startswith("inkling.") else code(name))


def write_paragraphs(comment: str) -> str:
    """A comment's paragraphs; lines that begin with a dash are a list already."""
    paragraphs = comment.strip().split("\n\n")
    return "\n\n".join("\n".join(escape(line) for line in paragraph.splitlines()) for paragraph in paragraphs)
