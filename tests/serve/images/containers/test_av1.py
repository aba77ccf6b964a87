"""serve.images.containers.av1: the size of AV1 data is what its decoder allocates, or there is none."""

import pytest

from serve.errors import UnreadableImage
from serve.images.containers.av1 import read_av1_size

DELIMITER = b"\x12\0"
SEQUENCE, FRAME = 1, 6
KEY, INTER, SWITCH = "00", "01", "11"
NO_TIMING, ONE_POINT = "0", "0" + "00000" + 12 * "0" + "00000"
TIMING = "1" + 64 * "0"
MODEL = "1" + "00011" + 32 * "0" + "00000" + "00100"
"""Delays in 4 bits, and times in 5."""


def unit(kind: int, bits: str) -> bytes:
    content = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    return bytes([kind << 3 | 2, len(content)]) + content


def sequence(
    size: tuple[int, int], before: str = NO_TIMING + ONE_POINT, numbers: str = "0", tools: str = "11"
) -> bytes:
    sides = "1111" * 2 + "".join(f"{side - 1:016b}" for side in size)
    return unit(SEQUENCE, "00000" + before + sides + numbers + 7 * "0" + "0" + tools)


def frame(kind: str, own_size: str, time: str = "", number: str = "", tools: str = "10") -> bytes:
    """A frame that is shown."""
    resilient = "1" if kind == INTER else ""
    return unit(FRAME, "0" + kind + "1" + time + resilient + "0" + tools + number + own_size)


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (65_536, 65_536)])
def test_the_size_is_that_of_the_sequence(size: tuple[int, int]) -> None:
    data = b"??" + DELIMITER + sequence(size) + frame(KEY, "0") + frame(INTER, "0") + b"??"
    assert read_av1_size(data, 2, len(data) - 2) == size


@pytest.mark.parametrize("kind", [KEY, INTER])
@pytest.mark.parametrize(
    ("before", "numbers", "tools", "parts"),
    [
        (NO_TIMING + ONE_POINT, "0", "11", {}),
        (NO_TIMING + ONE_POINT, "1" + "0010" + "001", "11", {"number": "111111"}),
        (NO_TIMING + ONE_POINT, "0", "00", {"tools": ""}),
        (NO_TIMING + ONE_POINT, "0", "011", {"tools": "1"}),
        (TIMING + "0" + MODEL + ONE_POINT + "0", "0", "11", {"time": "11111"}),
        (TIMING + "0" + MODEL + ONE_POINT + "1" + 9 * "1", "0", "11", {"time": "11111"}),
        (TIMING + "1" + "00101" + MODEL + ONE_POINT + "0", "0", "11", {}),
        (NO_TIMING + "1" + "00000" + 12 * "0" + "01000" + "1" + "1" + "1111", "0", "11", {}),
    ],
    ids=["plain", "numbered", "no tools", "one tool", "timed", "delayed", "equal intervals", "tier"],
)
def test_a_frame_with_a_size_of_its_own_is_refused(
    kind: str, before: str, numbers: str, tools: str, parts: dict[str, str]
) -> None:
    start = sequence((64, 48), before, numbers, tools)
    same, other = start + frame(kind, "0", **parts), start + frame(kind, "1", **parts)
    assert read_av1_size(same, 0, len(same)) == (64, 48)
    with pytest.raises(UnreadableImage, match="a frame whose size"):
        read_av1_size(other, 0, len(other))


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "no sequence header"),
        (DELIMITER, "no sequence header"),
        (frame(KEY, "0") + sequence((64, 48)), "a frame whose size"),
        (sequence((64, 48)) + frame(SWITCH, "0"), "a frame whose size"),
        (sequence((64, 48)) + frame(KEY, "0") + sequence((640, 480)), "several sizes"),
        (sequence((64, 48))[:-1], "longer than the whole"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff", "longer than the whole"),
        (b"\x0a", "longer than the whole"),
        (unit(SEQUENCE, "00000" + TIMING + "1" + 40 * "0" + "1" + 400 * "0"), "very many bits"),
        (unit(SEQUENCE, "00000" + NO_TIMING), "ends too early"),
        (DELIMITER * 200, "over 128 parts"),
    ],
)
def test_data_that_do_not_say_one_size_are_refused(data: bytes, got: str) -> None:
    with pytest.raises(UnreadableImage, match=got):
        read_av1_size(data, 0, len(data))


def test_a_last_unit_needs_no_length() -> None:
    whole = sequence((64, 48))
    data = bytes([SEQUENCE << 3]) + whole[2:]
    assert read_av1_size(data, 0, len(data)) == (64, 48)
    data = bytes([SEQUENCE << 3 | 4, 0]) + whole[2:]
    assert read_av1_size(data, 0, len(data)) == (64, 48)
