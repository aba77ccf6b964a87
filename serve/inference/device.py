"""The device to run on, why where it is not the one wanted, and how ONNX Runtime runs a model there.

Enters: "auto", "cpu" or "cuda", and a device's number. Leaves: "cpu" or "cuda:<id>", and sessions.
Does not know: what a model file says of itself.

CUDA is proven before a model is loaded: where it does not start, `auto` takes the CPU and says why.
"""

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from serve.errors import ConfigError

ONLY_FATAL = 4


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model runs, and with how much of it."""

    device: str
    """"cpu" or "cuda:<id>"."""
    threads: int
    """Threads of one run on the CPU."""
    max_batch: int
    """Most images in one run."""
    gpu_memory_bytes: int
    """Most memory that one model takes on CUDA; 0 for no limit."""
    most_threads: int = 1
    """Threads of a run on the CPU that spreads over cores which other workers leave idle."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes that CUDA runs, padded: each new one costs a search for algorithms."""
        return (*(2**power for power in range((self.max_batch - 1).bit_length())), self.max_batch)


def choose_device(wanted: str, device_id: int) -> tuple[str, str]:
    """The device to run on, and why where it is not the best one wanted: `("cpu", "...")`.

    `wanted` is "auto", "cpu" or "cuda". Raises ConfigError where CUDA was asked for and cannot be had.
    """
    if wanted == "cpu":
        return "cpu", ""
    problem = find_cuda_problem(device_id)
    if not problem:
        return f"cuda:{device_id}", ""
    if wanted == "cuda":
        raise ConfigError(f"--device cuda: {problem}")
    return "cpu", problem


def find_cuda_problem(device_id: int) -> str:
    """Why CUDA cannot be had here, or nothing: the build, the driver, the device, then the libraries."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this onnxruntime is a build without CUDA; for a GPU, install the extra [gpu] instead of [cpu]"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver: {error}"
    return find_driver_problem(driver, device_id, ort.cuda_version) or _find_library_problem()


def find_driver_problem(driver: Any, device_id: int, wanted_version: str) -> str:
    """Why a device does not start by the driver's own interface (CUDA Driver API), or nothing.

    A driver serves the toolkit of its own major version and of those before. The context stays: ONNX Runtime has the
    same one.
    """
    version, devices, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    context, name = ctypes.c_void_p(), ctypes.c_char_p(b"an error without a name")
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0:
        return "the NVIDIA driver is installed and does not start"
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major < int(wanted_version.partition(".")[0] or 0):
        return f"wanted a driver for CUDA {wanted_version}, the one here goes up to {major}.{minor}"
    if device_id >= devices.value:
        return f"wanted device {device_id}, the driver has {devices.value}"
    code = driver.cuDeviceGet(ctypes.byref(device), device_id)
    code = code or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if not code:
        return ""
    driver.cuGetErrorName(code, ctypes.byref(name))
    return f"device {device_id} does not start: {(name.value or b'').decode()}"


def _find_library_problem() -> str:
    ort.preload_dlls()
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        ctypes.CDLL(str(provider))
    except OSError as error:
        if "cannot open shared object" in str(error):  # what else it says here is settled when ONNX Runtime loads it
            return f"a CUDA library is missing: {error}"
    return ""


def open_session(model: str | bytes, placement: Placement) -> ort.InferenceSession:
    """A session for a model's file or bytes. Raises what ONNX Runtime raises: a class per fault, without a base.

    Without its fallback, which prints the fault to stdout and then tries the CPU, unasked.
    """
    options, providers = _make_options(placement), _choose_providers(placement)
    return ort.InferenceSession(model, options, providers=providers, enable_fallback=0)


def _choose_providers(placement: Placement) -> list[str | tuple[str, dict[str, str]]]:
    if placement.device == "cpu":
        return ["CPUExecutionProvider"]
    options = {
        "device_id": placement.device.removeprefix("cuda:"),
        # An exhaustive search costs hundreds of milliseconds for every new batch size.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        # float32 means float32: TF32's 10 bits would move probabilities by up to 1e-3.
        "use_tf32": "0",
    }
    if placement.gpu_memory_bytes:
        options["gpu_mem_limit"] = str(placement.gpu_memory_bytes)
    return [("CUDAExecutionProvider", options)]


@functools.cache
def _share_arena() -> None:
    """Keep the memory of runs on the CPU in one arena of this process, for all its models.

    Without one, glibc may return the memory to the kernel after a run, and the next run gets it back page by page. An
    arena for each model would take more memory (docs/benchmarks/history.md).
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # Grow by what is asked for, not to the next power of two; no limit; ONNX Runtime's defaults for the rest.
    sizes = {"arena_extend_strategy": 1, "max_mem": 0, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(sizes))


def _make_options(placement: Placement) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(placement.threads, placement.most_threads)
    options.inter_op_num_threads = 1
    if placement.device == "cpu":
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Weights stay as long as the model does; the arena would only round their size up.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a spinning thread burns a shared core
    if placement.device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")  # the fallback is silent otherwise
    options.log_severity_level = ONLY_FATAL  # what it says of a fault is raised as well, and logged once and escaped
    return options
