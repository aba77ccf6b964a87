"""The AV1 data of one picture -> the size that its decoder will give, without decoding.

Enters: bytes, and where in them the data lie. Leaves: width and height. Does not know: files, which size is large.

The names and the order of the bits are those of the AV1 specification (AOM 2019), sections 5.3, 5.5 and 5.9.
"""

from typing import NamedTuple

from serve.errors import UnreadableImage

_SEQUENCE_HEADER = 1
_FRAME_HEADERS = frozenset({3, 6, 7})
"""Kinds of units (OBU) that begin with a frame header: alone, with its tiles, and again."""
_MOST_UNITS = 128
"""Units of one picture. Encoders write three to five."""
_HEADER_BYTES = 512
"""Bytes that a sequence header may have, with the most operating points."""
_KEY_FRAME, _SWITCH_FRAME = 0, 3
_CHOOSE = 2
"""Of the tools of a sequence: each frame says itself."""


class Sequence(NamedTuple):
    """What a sequence header says, as far as the sizes of its frames hang on it."""

    size: tuple[int, int]
    is_reduced: bool
    """All frames have the sequence's size, and do not say so."""
    time_bits: int
    """Bits of the time of a frame that is shown."""
    id_bits: int
    """Bits of a frame's number."""
    screen_tools: int
    whole_vectors: int


class _Bits:
    """Bits of a header, the first ones first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The number in the next bits. Raises UnreadableImage if there are fewer."""
        self._left -= count
        if self._left < 0:
            raise _unreadable("a header that ends too early")
        return self._value >> self._left & (1 << count) - 1

    def skip_if(self, count: int) -> int:
        """The next bit; if it is set, `count` bits after it are passed over."""
        is_set = self.take(1)
        self.take(count * is_set)
        return is_set


def read_av1_size(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """The size of the frames in data[at:stop]. Raises UnreadableImage if they have several, or do not say.

    Each sequence header is read, and each frame header for whether it has a size of its own: decoders take such a size
    even where it is larger than the sequence's.
    """
    sequence: Sequence | None = None
    for _ in range(_MOST_UNITS):
        if at >= stop:
            break
        kind, start, end = _read_unit(data, at, stop)
        header = data[start : min(end, start + _HEADER_BYTES)]
        if kind == _SEQUENCE_HEADER:
            read = _read_sequence(_Bits(header))
            if sequence and sequence.size != read.size:
                raise _unreadable("several sizes")
            sequence = read
        elif kind in _FRAME_HEADERS and (sequence is None or _has_own_size(_Bits(header), sequence)):
            raise _unreadable("a frame whose size its sequence header does not give")
        at = end
    else:
        raise _unreadable(f"over {_MOST_UNITS} parts")
    if sequence is None:
        raise _unreadable("no sequence header")
    return sequence.size


def _read_unit(data: bytes, at: int, stop: int) -> tuple[int, int, int]:
    """The kind of the unit at a place, and where its content starts and ends."""
    flags = data[at]
    at += 2 if flags & 4 else 1
    if not flags & 2:  # without a length it goes on to the end
        return flags >> 3 & 15, at, stop
    length = 0
    for number, byte in enumerate(data[at : min(at + 8, stop)]):
        length |= (byte & 127) << 7 * number
        if not byte & 128:
            start = at + number + 1
            if flags & 128 or start + length > stop:
                break
            return flags >> 3 & 15, start, start + length
    raise _unreadable("a part that is longer than the whole")


def _read_sequence(bits: _Bits) -> Sequence:
    bits.take(4)  # seq_profile, still_picture
    is_reduced = bool(bits.take(1))
    time_bits = 0
    if is_reduced:
        bits.take(5)  # seq_level_idx
    else:
        time_bits = _read_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    size = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    if is_reduced:
        return Sequence(size, is_reduced, 0, 0, _CHOOSE, _CHOOSE)
    id_bits = bits.take(4) + bits.take(3) + 3 if bits.take(1) else 0
    bits.take(7)  # superblocks of 128, filter_intra, intra_edge_filter, and four tools between frames
    bits.skip_if(2)  # enable_order_hint: jnt_comp, ref_frame_mvs
    screen_tools = _CHOOSE if bits.take(1) else bits.take(1)
    whole_vectors = _CHOOSE if not screen_tools or bits.take(1) else bits.take(1)
    return Sequence(size, is_reduced, time_bits, id_bits, screen_tools, whole_vectors)


def _read_operating_points(bits: _Bits) -> int:
    """Pass over the timing and the operating points. The number of bits of a frame's time."""
    delay_bits = time_bits = 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)
        has_equal_intervals = bits.take(1)
        if has_equal_intervals:
            _skip_uvlc(bits)
        if bits.take(1):  # decoder_model_info_present_flag
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5)
            time_bits = bits.take(5) + 1
            time_bits *= not has_equal_intervals
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)  # operating_point_idc
        if bits.take(5) > 7:  # seq_level_idx
            bits.take(1)
        if delay_bits:
            bits.skip_if(2 * delay_bits + 1)
        if has_display_delay:
            bits.skip_if(4)
    return time_bits


def _skip_uvlc(bits: _Bits) -> None:
    """Pass over a number of up to 32 bits. Decoders differ in how they read a longer one."""
    zeros = 0
    while not bits.take(1):
        zeros += 1
        if zeros == 32:
            raise _unreadable("a number of very many bits")
    bits.take(zeros)


def _has_own_size(bits: _Bits, sequence: Sequence) -> bool:
    """Whether a frame has frame_size_override_flag."""
    if sequence.is_reduced or bits.take(1):  # show_existing_frame
        return False
    kind, is_shown = bits.take(2), bits.take(1)
    bits.take(sequence.time_bits if is_shown else 1)  # temporal_point_info, or showable_frame
    if kind == _SWITCH_FRAME:
        return True
    if not (kind == _KEY_FRAME and is_shown):
        bits.take(1)  # error_resilient_mode
    bits.take(1)  # disable_cdf_update
    has_screen_tools = bits.take(1) if sequence.screen_tools == _CHOOSE else sequence.screen_tools
    if has_screen_tools and sequence.whole_vectors == _CHOOSE:
        bits.take(1)  # force_integer_mv
    bits.take(sequence.id_bits)
    return bool(bits.take(1))


def _unreadable(got: str) -> UnreadableImage:
    return UnreadableImage(f"wanted an AVIF whose AV1 data give one size in their sequence header, got {got}")
