"""The instructions of the hardware -> the numeric precision to train in.

Enters: the user's choice, or none. Leaves: `float32` or `bfloat16`. Does not know: recipes, or what is trained.
On a CPU with bfloat16 instructions bfloat16 is faster, without them float32 is (`docs/benchmarks/training.md`).
"""

from importlib import import_module
from pathlib import Path

import keras

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}
_AMPERE = (8, 0)  # the first CUDA compute capability with bfloat16 arithmetic


def choose_precision(wish: str | None) -> str:
    """Choose the precision: for `auto` or None, the faster one on the GPU, or on the CPU if there is no GPU."""
    if wish and wish != "auto":
        return wish
    capability = find_gpu_capability()
    fast = capability >= _AMPERE if capability else has_bfloat16(read_cpu_flags())
    return "bfloat16" if fast else "float32"


def find_precision(model: keras.Model) -> str:
    """The precision that a model's layers compute in. Its logits and softmax are always float32."""
    return "bfloat16" if any(layer.compute_dtype == "bfloat16" for layer in model.layers) else "float32"


def has_bfloat16(flags: set[str]) -> bool:
    """Whether a CPU with these flags, as Linux names them, has bfloat16 instructions."""
    return bool(flags & _CPU_FLAGS)


def read_cpu_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The flags of the first CPU that Linux lists; empty on other systems."""
    if not path.exists():
        return set()
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((set(value.split()) for name, _, value in lines if name.strip() == "flags"), set())


def find_gpu_capability() -> tuple[int, int] | None:
    """The CUDA compute capability of the first GPU of Keras' backend, or None."""
    if keras.backend.backend() == "jax":
        device = import_module("jax").devices()[0]  # not a dependency: the user chose this backend
        if device.platform != "gpu":
            return None
        major, minor = map(int, device.compute_capability.split("."))
        return major, minor
    import tensorflow as tf  # the backend that is loaded already

    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    return details.get("compute_capability")
