"""Runs of one image on the CPU, in memory that is bound to the session once.

Enters: an ONNX Runtime session and pixels. Leaves: the values of one of its outputs, as Python's numbers.
Does not know: what is in the pixels and the values, files, batches, who calls.

`InferenceSession.run` looks through its arguments, wraps each input, and makes an array for each output. For a batch
that is nothing; a lone caller, whose caches are cold at every step, waits some percent longer.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort


class BoundRuns:
    """One image a run. From any thread: each that runs at this moment has memory of its own."""

    def __init__(
        self, session: ort.InferenceSession, names: tuple[str, str], shape: tuple[int, ...], value_count: int
    ) -> None:
        """Names of the input, uint8 [N, *shape], and of the output, float32 [N, value_count]."""
        self._session = session
        self._names = names
        self._shape = (1, *shape)
        self._value_count = value_count
        self._free: list[_Memory] = []

    def run(self, pixels: npt.NDArray[np.uint8]) -> list[float]:
        """The values for uint8 [*shape]. Raises what ONNX Runtime raises."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = self._bind()
        memory.images[0] = pixels
        self._session.run_with_iobinding(memory.binding)
        values: list[float] = memory.values[0].tolist()
        self._free.append(memory)
        return values

    def _bind(self) -> "_Memory":
        source, target = self._names
        images = np.zeros(self._shape, np.uint8)
        values = np.zeros((1, self._value_count), np.float32)
        binding = self._session.io_binding()
        binding.bind_input(source, "cpu", 0, np.uint8, images.shape, images.ctypes.data)
        binding.bind_output(target, "cpu", 0, np.float32, values.shape, values.ctypes.data)
        return _Memory(binding, images, values)


class _Memory(NamedTuple):
    binding: ort.IOBinding
    """Holds the addresses of the others, not them."""
    images: npt.NDArray[np.uint8]
    values: npt.NDArray[np.float32]
