"""Messages of protobuf -> JSON Schemas of their JSON form.

Enters: descriptors of messages. Leaves: schemas by name, which refer to each other. Does not know: paths, requests.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

Schema: TypeAlias = dict[str, Any]

WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "examples": ["0.050s"]},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
}
"""Messages whose JSON form is not that of their fields."""
INTEGER_TEXT: Schema = {"type": "string", "pattern": "^-?[0-9]+$"}
"""Whole numbers of 64 bits are texts, because JavaScript's numbers hold 53."""
SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_INT64: INTEGER_TEXT,
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.CPPTYPE_UINT64: INTEGER_TEXT,
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
BYTES: Schema = {"type": "string", "contentEncoding": "base64"}


def describe_messages(messages: Iterable[Any]) -> dict[str, Schema]:
    """The schemas of messages, and of those inside them."""
    found: dict[str, Schema] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.name not in found:
            found[message.name] = {
                "type": "object",
                "properties": {field.json_name: describe_field(field) for field in message.fields},
            }
            waiting.extend(filter(None, map(_find_message, message.fields)))
    return dict(sorted(found.items()))


def describe_field(field: FieldDescriptor) -> Schema:
    """The schema of one field."""
    if field.message_type and field.message_type.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": _describe_one(field.message_type.fields_by_name["value"])}
    schema = _describe_one(field)
    return {"type": "array", "items": schema} if field.is_repeated else schema


def refer(name: str) -> Schema:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def _describe_one(field: FieldDescriptor) -> Schema:
    if field.message_type:
        return WELL_KNOWN.get(field.message_type.full_name) or refer(field.message_type.name)
    if field.enum_type:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    return BYTES if field.type == FieldDescriptor.TYPE_BYTES else SCALARS[field.cpp_type]


def _find_message(field: FieldDescriptor) -> Descriptor | None:
    message = field.message_type
    if message is None or message.full_name in WELL_KNOWN or message.GetOptions().map_entry:
        return None
    return message
