"""A padded 3 x 3 convolution with a quarter of the multiplications, for training on a CPU.

Enters: values float32 or bfloat16 [N, H, W, C] and a kernel [3, 3, C, F] of the same dtype. Leaves: the result of
Keras' convolution up to rounding, which is coarser in bfloat16 (`docs/benchmarks/training.md`). Does not know: nets, or
what is trained.

The algorithm is Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin & Gray 2016, "Fast Algorithms for Convolutional
Neural Networks", arXiv 1509.09308). Here every step is a matrix product, so that any backend
differentiates it. Constant matrices contain the padding and the overlap of the tiles.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from train.nets.precision import POLICIES, find_gpu_capability

Matrix = npt.NDArray[np.float32]

TILE = 4  # results of a tile along one axis
POINTS = TILE + 2  # products of a tile along one axis
LEAST_WORK = 128 * 128
"""Channels times filters from which the saved products outweigh the cost of spreading the values."""

# B^T, G and A^T of the paper, section 4.2.
SPREAD = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], np.float32,
)  # fmt: skip
SPREAD_KERNEL = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
     [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], np.float32,
)  # fmt: skip
GATHER = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)


@keras.saving.register_keras_serializable("inkling")
class WinogradConv2D(layers.Conv2D):
    """Conv2D that trains by `convolve` where that is faster; otherwise, and in exported graphs, Keras' own."""

    def call(self, values: Any, training: bool = False) -> Any:
        """Values float [N, H, W, C] -> [N, H', W', F]."""
        if not (training and self.is_suitable()):
            return super().call(values)
        results = convolve(values, self.kernel)
        return self.activation(results + self.bias if self.use_bias else results)

    def is_suitable(self) -> bool:
        """Whether this is a padded 3 x 3 convolution with enough products to save, and there is no GPU."""
        form = (self.kernel_size, self.strides, self.dilation_rate, self.padding, self.groups, self.data_format)
        fits = form == ((3, 3), (1, 1), (1, 1), "same", 1, "channels_last")
        fits = fits and self.compute_dtype in POLICIES
        large = self.kernel.shape[-2] * self.kernel.shape[-1] >= LEAST_WORK
        return fits and large and find_gpu_capability() is None


def convolve(values: Any, kernel: Any) -> Any:
    """Convolve values [N, H, W, C], with known H, W and C, and a kernel [3, 3, C, F]: [N, H, W, F], zero-padded."""
    height, width, channels = values.shape[1:]
    rows, columns = -(-height // TILE), -(-width // TILE)  # tiles
    spread_rows, spread_columns, gather_rows, gather_columns = (
        ops.cast(matrix, values.dtype)
        for matrix in (spread_tiles(height), spread_tiles(width), gather_tiles(height), gather_tiles(width))
    )
    spread = ops.reshape(ops.transpose(values, (1, 2, 0, 3)), (height, -1))  # [H, W N C]
    spread = ops.matmul(spread_rows, spread)  # [6 rows, W N C]
    spread = ops.matmul(spread_columns, ops.reshape(spread, (POINTS * rows, width, -1)))
    spread = ops.reshape(spread, (POINTS, rows, POINTS, -1, channels))  # [6, rows, 6, columns N, C]
    products = ops.matmul(spread, spread_kernel(kernel))  # [6, rows, 6, columns N, F]
    products = ops.reshape(products, (POINTS * rows, POINTS * columns, -1))
    results = ops.matmul(gather_columns, products)  # [6 rows, W, N F]
    results = ops.matmul(gather_rows, ops.reshape(results, (POINTS * rows, -1)))  # [H, W N F]
    return ops.transpose(ops.reshape(results, (height, width, -1, kernel.shape[-1])), (2, 0, 1, 3))


def spread_tiles(length: int) -> Matrix:
    """The matrix float32 [6 tiles, length] from a line of values to its tiles, which overlap by two values."""
    tiles = -(-length // TILE)
    matrix = np.zeros((POINTS, tiles, TILE * tiles + 2), np.float32)
    for tile in range(tiles):
        matrix[:, tile, TILE * tile : TILE * tile + POINTS] = SPREAD
    return matrix[:, :, 1 : length + 1].reshape(POINTS * tiles, length)  # the zeros of the padding need no column


def gather_tiles(length: int) -> Matrix:
    """The matrix float32 [length, 6 tiles] from the products of a line's tiles to its results, cut at its end."""
    tiles = -(-length // TILE)
    matrix = np.zeros((TILE * tiles, POINTS, tiles), np.float32)
    for tile in range(tiles):
        matrix[TILE * tile : TILE * (tile + 1), :, tile] = GATHER
    return matrix[:length].reshape(length, POINTS * tiles)


def spread_kernel(kernel: Any) -> Any:
    """A kernel [3, 3, C, F] -> [6, 1, 6, C, F]: a matrix for each point of a tile."""
    both_ways = np.kron(SPREAD_KERNEL, SPREAD_KERNEL)  # [6 6, 3 3]
    matrices = ops.matmul(both_ways, ops.cast(ops.reshape(kernel, (9, -1)), "float32"))  # rounded only once, below
    return ops.reshape(ops.cast(matrices, kernel.dtype), (POINTS, 1, POINTS, *kernel.shape[2:]))
