"""serve.inference.device: CUDA where it starts, else the CPU with the reason, or an error with it."""

import ctypes
from dataclasses import dataclass
from typing import Any

import pytest

from serve.errors import ConfigError
from serve.inference.device import choose_device, find_driver_problem

CUDA_PROBLEM = choose_device("auto", 0)[1]
without_cuda = pytest.mark.skipif(not CUDA_PROBLEM, reason="CUDA starts on this machine")


@dataclass
class Driver:
    """Stands in for NVIDIA's library, which no test can bring into such a state."""

    version: int = 13000
    devices: int = 1
    init_code: int = 0
    start_code: int = 0

    def cuInit(self, flags: int) -> int:
        """CUDA Driver API, as all below."""
        return self.init_code

    def cuDriverGetVersion(self, version: Any) -> int:
        """1000 x major + 10 x minor."""
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        """How many there are."""
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        """A handle by number."""
        device._obj.value = number
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> int:
        """What takes memory on the device."""
        return self.start_code

    def cuGetErrorName(self, code: int, name: Any) -> int:
        """Of a code."""
        name._obj.value = {2: b"CUDA_ERROR_OUT_OF_MEMORY"}[code]
        return 0


@pytest.mark.parametrize(
    ("driver", "problem"),
    [
        (Driver(), ""),
        (Driver(version=13020), ""),
        (Driver(init_code=999), "the NVIDIA driver is installed and does not start"),
        (Driver(version=12080), "wanted a driver for CUDA 13.0, the one here goes up to 12.8"),
        (Driver(devices=0), "wanted device 0, the driver has 0"),
        (Driver(start_code=2), "device 0 does not start: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_a_driver_too_old_for_this_build_is_found_before_any_model_loads(driver: Driver, problem: str) -> None:
    assert find_driver_problem(driver, 0, "13.0") == problem


def test_the_cpu_is_taken_without_a_word_where_it_was_asked_for() -> None:
    assert choose_device("cpu", 0) == ("cpu", "")


@without_cuda
def test_auto_falls_back_to_the_cpu_and_says_why() -> None:
    device, problem = choose_device("auto", 0)
    assert device == "cpu"
    assert problem.startswith(("this onnxruntime is a build without CUDA", "no NVIDIA driver", "a CUDA library"))


@without_cuda
def test_cuda_that_cannot_be_had_is_an_error_that_says_why() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device("cuda", 0)
    assert str(caught.value) == f"--device cuda: {CUDA_PROBLEM}"


@pytest.mark.skipif(bool(CUDA_PROBLEM), reason=f"no CUDA here: {CUDA_PROBLEM}")
def test_a_cuda_device_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="wanted device 99, the driver has"):
        choose_device("cuda", 99)
