"""`train.nets.precision`: bfloat16 if the hardware has its instructions, or the precision of the flag."""

from pathlib import Path

import pytest

from train.nets import precision
from train.nets.precision import choose_precision, has_bfloat16, read_cpu_flags


def test_bfloat16_is_for_cpus_with_its_instructions() -> None:
    assert has_bfloat16({"avx2", "amx_bf16"})
    assert has_bfloat16({"avx512_bf16"})
    assert not has_bfloat16({"avx2", "avx512f", "avx512_vnni"})


def test_cpu_flags_are_read_as_linux_writes_them(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nvmx flags\t: vnmi\nflags\t\t: fpu amx_bf16 avx2\n\nprocessor\t: 1\nflags\t: x\n"
    )
    assert read_cpu_flags(cpuinfo) == {"fpu", "amx_bf16", "avx2"}
    assert read_cpu_flags(tmp_path / "absent") == set()


def test_a_precision_that_is_named_is_taken() -> None:
    assert [choose_precision(name) for name in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize("wish", ["auto", None])
@pytest.mark.parametrize(
    ("capability", "cpu_flags", "chosen"),
    [
        (None, {"avx512_bf16"}, "bfloat16"),
        (None, {"avx2"}, "float32"),
        ((8, 0), {"avx2"}, "bfloat16"),
        ((7, 5), {"avx512_bf16"}, "float32"),
    ],
)
def test_auto_depends_on_the_gpu_or_else_on_the_cpu(
    wish: str | None,
    capability: tuple[int, int] | None,
    cpu_flags: set[str],
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "find_gpu_capability", lambda: capability)
    monkeypatch.setattr(precision, "read_cpu_flags", lambda: cpu_flags)
    assert choose_precision(wish) == chosen
