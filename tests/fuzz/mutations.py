"""Strategies of hypothesis: files and messages -> mutated ones, by their bytes and by their structure.

Enters: good files and messages. Leaves: strategies of bytes. Does not know: what takes them.
Messages are walked by their descriptors, so a field that is added later is mutated without a word here.
"""

import json
from collections.abc import Callable, MutableSequence, Sequence
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from tests.fuzz.parts import layout_of

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

MOST_ADDED = 400_000
"""Bytes that one change may add, so that most of the time goes into what is tried."""
ODD_INTEGERS = (0, 1, 2, 3, 8, 16, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**24, 2**31 - 1, 2**32 - 1)
ODD_TEXTS = (
    *("", "\0", "a\nb", "\x1b[31m", "../../etc/passwd", "/dev/zero", "%s%n", "\u202e\ufeff", "\U0010ffff", "x" * 300),
    *("0", "-1", "01", "1e9", "9" * 400, "en", "ru-RU", "en-" * 200, "*", "bands", "1"),
)
_WIDTHS = (1, 2, 4)
_LARGEST = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_REALS = (0.0, -1.0, 1e-300, 3.4e38, float("inf"), float("-inf"), float("nan"))


def change_bytes(draw: Draw, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The bytes with one to four changes that know nothing of their structure."""
    for _ in range(draw(_FEW)):
        data = _change_bytes(draw, data, others)
    return data


class Seeds(tuple[T, ...]):
    """Good files or messages; a failure does not print them all."""

    def __repr__(self) -> str:
        return f"<{len(self)} seeds>"


@st.composite
def mutated_files(draw: Draw, seeds: Seeds[bytes]) -> list[bytes]:
    """One of the files, changed more and more: in its bytes, in its parts, and in the bytes of a part."""
    data, changed = draw(st.sampled_from(seeds)), []
    in_parts = draw(st.booleans())
    layout = layout_of(data)
    parts = layout.split(data) if in_parts else []
    for _ in range(draw(_FEW)):
        if in_parts:
            _change_parts(draw, parts, seeds)
            data = layout.join(parts)
        else:
            data = _change_bytes(draw, data, seeds)
        changed.append(data)
    return [*changed, change_bytes(draw, data, seeds)] if in_parts else changed


@st.composite
def mutated_messages(draw: Draw, seeds: Seeds[Message], files: Seeds[bytes]) -> list[bytes]:
    """One of the messages as bytes, changed more and more in its fields, and in the end in its wire format."""
    seed = draw(st.sampled_from(seeds))
    message, changed = type(seed)(), [seed.SerializePartialToString()]
    message.CopyFrom(seed)
    for _ in range(draw(_FEW)):
        _change_inside(draw, message, st.sampled_from(files))
        changed.append(message.SerializePartialToString())
    return [*changed, change_bytes(draw, draw(st.sampled_from(changed)), ODD_WIRE)]


def change_message(draw: Draw, message: Message, files: st.SearchStrategy[bytes]) -> None:
    """Change one field of a message, or of one that is inside."""
    field = draw(st.sampled_from(_fields(type(message))))
    if _is_map(field):
        _change_map(draw, message, field)
    elif field.is_repeated:
        _change_repeated(draw, getattr(message, field.name), field, files)
    elif field.message_type and message.HasField(field.name) and draw(_one_in(4)):
        message.ClearField(field.name)
    elif field.message_type:
        inside = getattr(message, field.name)
        inside.SetInParent()
        _change_inside(draw, inside, files)
    else:
        setattr(message, field.name, draw(_value(field, files)))


@st.composite
def mutated_json(draw: Draw, text: str) -> str:
    """A JSON text with one of its values, or all of it, replaced by another."""
    value = json.loads(text)
    replaced = draw(ODD_JSON)
    while isinstance(value, dict | list) and value and not draw(_one_in(3)):
        keys: Sequence[Any] = sorted(value) if isinstance(value, dict) else range(len(value))
        key = draw(st.sampled_from(keys))
        if not isinstance(value[key], dict | list) or draw(st.booleans()):
            return _replace_json(draw, text, value, key, replaced)
        inner = draw(mutated_json(json.dumps(value[key])))
        return _replace_json(draw, text, value, key, inner)
    return str(replaced)


def _replace_json(draw: Draw, text: str, value: Any, key: Any, replaced: str) -> str:
    """Text in place of a value, which need not be JSON; or the value is gone, or comes again under another key."""
    kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
    if kind == "remove":
        del value[key]
        return json.dumps(value)
    if kind == "add" and isinstance(value, dict):
        return json.dumps({**value, draw(st.sampled_from(ODD_TEXTS)): value[key]})
    mark = "a mark that no file has"
    value[key] = mark
    return json.dumps(value).replace(json.dumps(mark), replaced)


ODD_JSON = st.sampled_from(
    [
        *("null", "true", "-1", "0", "1", "0.5", "1e999", "NaN", "-Infinity", "9" * 40, "9" * 5000, '""', "[]", "{}"),
        *('"\\ud800"', '"a\\nb"', '"' + "x" * 300_000 + '"', "[" * 200 + "]" * 200, '{"a": ' * 90 + "1" + "}" * 90),
        *("2147483647", "65536", "[2147483647, 2147483647, 3]", '["a"]', '{"a": 1}', "{", "", "0x1", '"0001-01-01"'),
        *("[20000, 20000, 3]", "[" + "0.5, " * 20_000 + "0.5]", '"photo"', '"digit"', "12", "13"),
    ]
)
ODD_WIRE = (
    *(b"\x80" * 11, b"\xff" * 10 + b"\x01", b"\x0b" * 200, b"\x0b\x0c", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x00" * 50),
    *(b"\xfa\x01\x02\xc3\x28", b"\x00", b"\x07", bytes(64)),
)
"""Overlong and unfinished varints, groups, lengths beyond the end, no UTF-8."""


@cache
def _one_in(count: int) -> st.SearchStrategy[bool]:
    return st.sampled_from([False] * (count - 1) + [True])


def _change_bytes(draw: Draw, data: bytes, others: Sequence[bytes]) -> bytes:
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if draw(st.booleans()):
        at = min(at, draw(st.integers(0, 64)))  # headers are more worth than pixels
    kind = draw(st.sampled_from(["flip", "integer", "cut", "remove", "repeat", "insert", "splice"]))
    if kind == "flip":
        return data[:at] + bytes([(data[at] if data else 0) ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if kind == "integer":
        width, number = draw(st.sampled_from(_WIDTHS)), draw(st.sampled_from(ODD_INTEGERS))
        order = "big" if draw(st.booleans()) else "little"
        return data[:at] + (number % 256**width).to_bytes(width, order) + data[at + width :]
    if kind == "cut":
        return data[:at]
    if kind == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=16)) + data[at:]
    if kind == "splice" and others:
        other = draw(st.sampled_from(others))
        return data[:at] + other[draw(st.integers(0, len(other))) :]
    end = at + draw(st.integers(1, 64))
    return data[:at] + data[end:] if kind == "remove" else data[:at] + _repeat(draw, data[at:end]) + data[end:]


def _repeat(draw: Draw, data: bytes) -> bytes:
    return data * min(draw(_TIMES), MOST_ADDED // max(1, len(data)) + 1)


_TIMES = st.sampled_from([2, 3, 10, 100, 1_000, 30_000])
_FEW = st.integers(1, 4)


def _change_parts(draw: Draw, parts: list[bytes], seeds: Sequence[bytes]) -> None:
    if not parts:
        return
    at = draw(st.integers(0, len(parts) - 1))
    kind = draw(st.sampled_from(["inside", "inside", "inside", "remove", "repeat", "swap", "foreign", "grow"]))
    if kind == "inside":
        parts[at] = change_bytes(draw, parts[at])
    elif kind == "remove":
        del parts[at]
    elif kind == "repeat":
        parts[at:at] = [parts[at]] * min(draw(_TIMES), MOST_ADDED // (len(parts[at]) + 12) + 1)
    elif kind == "swap":
        other = draw(st.integers(0, len(parts) - 1))
        parts[at], parts[other] = parts[other], parts[at]
    elif kind == "foreign":
        seed = draw(st.sampled_from(seeds))
        parts[at:at] = layout_of(seed).split(seed)
    else:
        parts[at] += bytes([draw(st.integers(0, 255))]) * draw(st.sampled_from([100, 10_000, MOST_ADDED]))


@cache
def _fields(kind: type[Message]) -> tuple[FieldDescriptor, ...]:
    return tuple(kind.DESCRIPTOR.fields)


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _change_inside(draw: Draw, message: Message, files: st.SearchStrategy[bytes]) -> None:
    if _fields(type(message)):
        change_message(draw, message, files)


def _change_map(draw: Draw, message: Message, field: FieldDescriptor) -> None:
    entries = getattr(message, field.name)
    key = draw(st.sampled_from([*ODD_TEXTS, *sorted(entries)]))
    value = field.message_type.fields_by_name["value"]
    if value.message_type:
        _change_inside(draw, entries[key], st.just(b""))
    else:
        entries[key] = draw(_value(value, st.just(b"")))


def _change_repeated(
    draw: Draw, values: MutableSequence[Any], field: FieldDescriptor, files: st.SearchStrategy[bytes]
) -> None:
    kind = draw(st.sampled_from(["change", "change", "add", "remove", "repeat"]))
    if kind == "remove" and values:
        del values[draw(st.integers(0, len(values) - 1))]
    elif kind == "repeat" and values:
        values.extend(list(values)[: draw(st.integers(1, 3))] * draw(st.sampled_from([1, 2, 300])))
    elif field.message_type:
        at = draw(st.integers(0, len(values) - 1)) if values and kind == "change" else -1
        _change_inside(draw, values[at] if at >= 0 else values.add(), files)  # type: ignore[attr-defined]
    elif kind == "change" and values:
        values[draw(st.integers(0, len(values) - 1))] = draw(_value(field, files))
    else:
        values.append(draw(_value(field, files)))


def _value(field: FieldDescriptor, files: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    """A value of a field that is neither repeated nor a message."""
    if field.enum_type:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.cpp_type in _LARGEST:
        least, most = _LARGEST[field.cpp_type]
        return st.sampled_from([least, -1 if least else 0, most, *(each for each in ODD_INTEGERS if each <= most)])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return files if field.type == FieldDescriptor.TYPE_BYTES else st.sampled_from(ODD_TEXTS)
    return st.sampled_from(_REALS)
