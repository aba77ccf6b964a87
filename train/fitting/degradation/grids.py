"""Values of pixels -> the values that lie elsewhere: blurred by small kernels, turned, or scaled.

Enters: values float32 [N, H, W, C], and parameters or a generator. Leaves: values float32 of the same shape.
Does not know: recipes, labels, files.
"""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]

KERNEL_REACH = 3
"""Pixels on each side of a blur's centre. A Gaussian of 1.3 pixels has 97% of its weight within them."""
LARGEST_SCALE = 1.1


def blur(values: Values, widest: float, random: np.random.Generator) -> Values:
    """Blur each image by a Gaussian whose two standard deviations and direction are drawn, each up to `widest`."""
    count = len(values)
    deviations = np.maximum(random.uniform(0, widest, (2, count)), 0.1)
    deviations[1] = np.where(random.random(count) < 0.5, *deviations)  # half of the blurs are round
    return filter_each(values, make_kernels(deviations[0], deviations[1], random.uniform(0, np.pi, count)))


def make_kernels(
    along: npt.NDArray[np.floating], across: npt.NDArray[np.floating], angles: npt.NDArray[np.floating]
) -> Values:
    """Gaussian kernels float32 [N, 7, 7] that sum to 1, of standard deviations in pixels along and across angles."""
    offsets = np.arange(-KERNEL_REACH, KERNEL_REACH + 1, dtype=np.float32)
    down, right = np.meshgrid(offsets, offsets, indexing="ij")
    cosine, sine = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    first, second = right * cosine + down * sine, down * cosine - right * sine
    kernels = np.exp(-0.5 * ((first / along[:, None, None]) ** 2 + (second / across[:, None, None]) ** 2))
    return np.asarray(kernels / kernels.sum(axis=(1, 2), keepdims=True), np.float32)


def filter_each(values: Values, kernels: Values) -> Values:
    """Convolve each image with its own kernel float32 [N, 7, 7]. The border is repeated."""
    height, width = values.shape[1:3]
    reach = (KERNEL_REACH, KERNEL_REACH)
    padded = np.pad(values, ((0, 0), reach, reach, (0, 0)), mode="edge")
    results = np.zeros_like(values)
    for row, column in np.ndindex(kernels.shape[1:]):
        window = padded[:, row : row + height, column : column + width]
        results += kernels[:, row, column, None, None, None] * window
    return results


def turn_and_scale(values: Values, degrees: float, smallest: float, random: np.random.Generator) -> Values:
    """Rotate and scale each image about its centre. Half of them get one colour around them, half repeat the border."""
    count, height, width, channels = values.shape
    angles = np.radians(random.uniform(-degrees, degrees, (count,)))
    scales = random.uniform(smallest, LARGEST_SCALE, (count,))
    down, right = find_sources(angles, scales, (height, width))
    moved = interpolate(values, down, right)
    outside = (down < -0.5) | (down > height - 0.5) | (right < -0.5) | (right > width - 0.5)
    outside &= random.random((count, 1, 1)) < 0.5
    greys = random.uniform(0, 255, (count, 1)) + random.uniform(-20, 20, (count, channels))
    margins = np.clip(
        np.where(random.random((count, 1)) < 0.5, greys, 255.0 * random.integers(0, 2, (count, 1))), 0, 255
    )
    return np.where(outside[..., None], margins[:, None, None], moved).astype(np.float32)


def find_sources(
    angles: npt.NDArray[np.floating], scales: npt.NDArray[np.floating], size: tuple[int, int]
) -> tuple[Values, Values]:
    """Where each pixel of a rotated and scaled image comes from: rows and columns, float32 [N, H, W] each."""
    height, width = size
    down = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[None, :, None]
    right = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, None, :]
    cosine, sine = ((turn(angles) / scales).astype(np.float32)[:, None, None] for turn in (np.cos, np.sin))
    rows = cosine * down - sine * right + np.float32((height - 1) / 2)
    columns = sine * down + cosine * right + np.float32((width - 1) / 2)
    return rows, columns


def interpolate(values: Values, down: Values, right: Values) -> Values:
    """The values at rows and columns float32 [N, H, W], between four pixels each. The border is repeated."""
    count, height, width, _ = values.shape
    down, right = np.clip(down, 0, height - 1), np.clip(right, 0, width - 1)
    top, left = np.floor(down).astype(np.int64), np.floor(right).astype(np.int64)
    bottom, end = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    by_row, by_column = (down - top)[..., None], (right - left)[..., None]
    flat, base = values.reshape(count * height * width, -1), (np.arange(count) * height * width)[:, None, None]
    upper = flat[base + top * width + left] * (1 - by_column) + flat[base + top * width + end] * by_column
    lower = flat[base + bottom * width + left] * (1 - by_column) + flat[base + bottom * width + end] * by_column
    return np.asarray(upper * (1 - by_row) + lower * by_row, np.float32)
