"""`serve.machine.instructions`: the faster precision, by the flags of the processor."""

from pathlib import Path

import pytest

from serve.machine.instructions import find_fast_precision


@pytest.mark.parametrize(
    ("line", "precision"),
    [
        ("flags : fpu sse4_2 avx avx2 fma", "float32"),
        ("flags\t\t: fpu avx2 avx512f avx512bw", "float32"),
        ("flags : avx2 avx512f avx512_vnni", "int8"),
        ("flags : avx2 avx_vnni", "int8"),
        ("flags : avx512_vnni amx_bf16 amx_tile amx_int8", "int8"),
        ("Features\t: fp asimd evtstrm asimdhp", "float32"),
        ("Features\t: fp asimd asimddp", "int8"),
        ("model name : avx512_vnni", "float32"),
        ("", "float32"),
    ],
)
def test_int8_is_faster_where_there_are_products_of_bytes(tmp_path: Path, line: str, precision: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{line}\n")
    assert find_fast_precision(tmp_path / "cpuinfo") == precision


def test_a_system_without_the_file_takes_float32(tmp_path: Path) -> None:
    assert find_fast_precision(tmp_path / "cpuinfo") == "float32"
