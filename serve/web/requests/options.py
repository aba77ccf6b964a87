"""Fields of a query or a form -> the options of inkling.v1, by the descriptor of their message.

Enters: names with texts. Leaves: a message filled in, or an HttpError. Does not know: HTTP, what the options mean.
"""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from serve.errors import list_some, quote
from serve.pb import classifier_pb2 as pb
from serve.web.failures import invalid

SHORT_NAMES = {"language": "language_code"}
"""Names beside those of the fields."""
TRUE, FALSE = ("true", "1"), ("false", "0", "")
OPTION_FIELDS = {field.name: field for field in pb.ClassifyOptions.DESCRIPTOR.fields}
PARAMETERS = ("version", *(name for name in OPTION_FIELDS))
"""What a request to classify may say beside its image."""


def read_options(given: Iterable[tuple[str, str]], request: pb.ClassifyRequest) -> None:
    """Fill a request in. Raises HttpError for an unknown name, or a text of another type."""
    for name, text in given:
        field_name = SHORT_NAMES.get(name, name)
        if field_name == "version":
            request.version = text
        elif field := OPTION_FIELDS.get(field_name):
            setattr(request.options, field_name, _read(name, text, field.cpp_type))
        else:
            known = list_some(sorted({*PARAMETERS, *SHORT_NAMES}))
            raise invalid(f"wanted parameters of {known}; got {quote(name)}", "OPTION_INVALID")


def _read(name: str, text: str, kind: int) -> Any:
    wanted, convert = _KINDS[kind]
    try:
        return convert(text)
    except ValueError:
        raise invalid(f"{name}: wanted {wanted}, got {quote(text)}", "OPTION_INVALID") from None


def _to_int(text: str) -> int:
    if len(text) > 11 or not -(2**31) <= int(text) < 2**31:
        raise ValueError
    return int(text)


def _to_bool(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError


_KINDS: dict[int, tuple[str, Callable[[str], Any]]] = {
    FieldDescriptor.CPPTYPE_INT32: ("a whole number", _to_int),
    FieldDescriptor.CPPTYPE_BOOL: ("true or false", _to_bool),
    FieldDescriptor.CPPTYPE_STRING: ("a text", str),
    FieldDescriptor.CPPTYPE_FLOAT: ("a number", float),
    FieldDescriptor.CPPTYPE_DOUBLE: ("a number", float),
}
