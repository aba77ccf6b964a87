"""A form of the kind multipart/form-data -> its one file, and its other fields.

Enters: a body and its Content-Type. Leaves: a Form, or an HttpError. Does not know: what the fields mean.
It works in memory: a body is bounded, and the file system may be read-only.
"""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serve.web.failures import invalid

MOST_FIELDS = 16
MOST_FIELD_BYTES = 1024
"""Bytes of a field that is no file. The parser itself bounds the headers of a part."""
FILE_FIELD = "image"
"""A part of this name is the file, also if it has no name of a file."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a form holds."""

    file: bytes
    fields: dict[str, str]


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)


class _Reader:
    """Collects the parts as the parser finds them."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self._name, self._value = b"", b""
        self.is_complete = False

    def begin_part(self) -> None:
        if len(self.parts) >= MOST_FIELDS:
            raise invalid(f"wanted a form of at most {MOST_FIELDS} fields, got more")
        self.parts.append(_Part())

    def add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        self.parts[-1].headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def add_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].parts.append(data[start:end])

    def end(self) -> None:
        self.is_complete = True


def read_form(body: bytes, content_type: str) -> Form:
    """The file and the fields of a form. Raises HttpError."""
    _, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise invalid("wanted a boundary in the Content-Type of the form, got none")
    reader = _Reader()
    try:
        MultipartParser(
            boundary,
            {
                "on_part_begin": reader.begin_part,
                "on_header_field": reader.add_name,
                "on_header_value": reader.add_value,
                "on_header_end": reader.end_header,
                "on_part_data": reader.add_data,
                "on_end": reader.end,
            },
        ).write(body)
    except FormParserError:
        reader.is_complete = False
    if not reader.is_complete:
        raise invalid("wanted a form of multipart/form-data, got a body that is none or ends too early")
    return _sort(reader.parts)


def _sort(parts: list[_Part]) -> Form:
    files: list[bytes] = []
    fields: dict[str, str] = {}
    for part in parts:
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        name, content = options.get(b"name", b"").decode("utf-8", "replace"), b"".join(part.parts)
        if b"filename" in options or name == FILE_FIELD:
            files.append(content)
        elif len(content) > MOST_FIELD_BYTES:
            raise invalid(f"wanted fields of at most {MOST_FIELD_BYTES:,} bytes beside the file, got a larger one")
        else:
            fields[name] = content.decode("utf-8", "replace")
    if len(files) != 1:
        raise invalid(f"wanted one file in the form, as in curl -F image=@cat.jpg; got {len(files)}")
    return Form(files[0], fields)
