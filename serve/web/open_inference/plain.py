"""Messages and bodies <-> plain values, as the protocol has them in JSON: its own names, whole numbers as numbers.

Enters: messages, or bytes. Leaves: values, or an HttpError. Does not know: what they mean.
The JSON form of protobuf writes whole numbers of 64 bits as texts, which clients of this protocol do not read.
"""

import json
from typing import Any

from google.protobuf.message import Message

from serve.web.failures import invalid

ESCAPED_HALF = b"\\ud"
"""How JSON writes half of a surrogate pair, which no text of protobuf holds unless the other half follows."""


def to_plain(message: Message) -> dict[str, Any]:
    """Every field of a message by its name."""
    return {field.name: _to_value(field, getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _to_value(field: Any, value: Any) -> Any:
    if field.message_type and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_to_one(field, each) for each in value]
    return _to_one(field, value)


def _to_one(field: Any, value: Any) -> Any:
    if field.message_type:
        return to_plain(value)
    return field.enum_type.values_by_number[value].name if field.enum_type else value


def read_json(body: bytes) -> dict[str, Any]:
    """The object of a body. Raises HttpError."""
    try:
        found = json.loads(body.decode("utf-8-sig"))  # which refuses half of a surrogate pair, as json does not
    except UnicodeDecodeError:
        raise invalid("wanted JSON in UTF-8, got other bytes") from None
    except (ValueError, RecursionError):
        raise invalid("wanted a JSON object in the body, got other bytes") from None
    if ESCAPED_HALF in body.lower() and not _is_text(found):
        raise invalid("wanted texts of whole characters in the JSON, got half of a surrogate pair")
    if not isinstance(found, dict):
        raise invalid(f"wanted a JSON object in the body, got {type(found).__name__}")
    return found


def _is_text(found: Any) -> bool:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
