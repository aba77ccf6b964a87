"""The instructions of the processor -> the precision in which it computes nets fastest.

Enters: /proc/cpuinfo. Leaves: `int8` or `float32`. Does not know: models, devices.

Dot products of bytes (VNNI, AMX, and their like on Arm) make int8 faster than float32. Without them ONNX Runtime adds
products in 16 bits, which gains little and may saturate (its guide to quantization). The instructions decide, not a
measurement at the start: all workers agree, a restart serves the same, and noise decides nothing.
"""

from pathlib import Path

FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
"""Flags of such processors as Linux names them."""


def find_fast_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The faster one of `int8` and `float32`; `float32` if the instructions cannot be known."""
    return "int8" if FAST_INT8 & read_flags(cpuinfo) else "float32"


def read_flags(cpuinfo: Path) -> set[str]:
    """The flags of the first processor that Linux lists; empty on other systems."""
    try:
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    except OSError:
        return set()
    return next((set(value.split()) for name, _, value in lines if name.strip() in ("flags", "Features")), set())
