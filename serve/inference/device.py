"""The device to run on, and why where it is not the one wanted.

Enters: "auto", "cpu" or "cuda", and a device's number. Leaves: "cpu" or "cuda:<id>". Does not know: models.

CUDA is proven before a model is loaded: where it does not start, `auto` takes the CPU and says why.
"""

import ctypes
from pathlib import Path
from typing import Any

import onnxruntime as ort

from serve.errors import ConfigError


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
        return "this onnxruntime is a build without CUDA; install the extra [gpu] instead of [cpu]"
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
