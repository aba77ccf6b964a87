"""Values of pixels -> filtered, scaled or displaced values, as the libraries compute them that made CIFAR-10-C.

Enters: values float64 [H, W] or [H, W, C]. Leaves: values float64. Does not know: corruptions, severities, files.
Each function names the function of SciPy, OpenCV or ImageMagick whose result it has, up to rounding.
"""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

NEAREST, SYMMETRIC, REFLECT = "edge", "symmetric", "reflect"
"""Borders by NumPy's names: the last pixel repeated, the image mirrored with its last pixel, and without it."""


def blur(values: Values, deviation: float, border: str = NEAREST, reach: float = 4.0) -> Values:
    """A Gaussian blur that ends after `reach` standard deviations (scipy.ndimage.gaussian_filter)."""
    radius = int(reach * deviation + 0.5)
    if radius == 0:
        return values
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        values = _filter_axis(values, weights, axis, border)
    return values


def _filter_axis(values: Values, weights: Values, axis: int, border: str) -> Values:
    radius, length = len(weights) // 2, values.shape[axis]
    pads = [(radius, radius) if each == axis else (0, 0) for each in range(values.ndim)]
    padded = np.pad(values, pads, mode=border)  # type: ignore[call-overload]  # NumPy lists the modes one by one
    parts = (weight * padded.take(range(at, at + length), axis) for at, weight in enumerate(weights))
    return np.asarray(sum(parts))


def correlate(values: Values, kernel: Values) -> Values:
    """The products of a kernel [K, K] with the pixels around each one (cv2.filter2D)."""
    height, width = values.shape[:2]
    radius = len(kernel) // 2
    pads = [(radius, radius)] * 2 + [(0, 0)] * (values.ndim - 2)
    padded, results = np.pad(values, pads, mode="reflect"), np.zeros_like(values)
    for row, column in np.argwhere(kernel):
        results += kernel[row, column] * padded[row : row + height, column : column + width]
    return results


def make_disk(radius: float, alias_blur: float) -> Values:
    """A disk [17, 17] whose sum is 1, blurred by a Gaussian of 3 x 3 pixels (cv2.GaussianBlur)."""
    offsets = np.arange(-8, 9)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    weights = np.exp(-0.5 * (np.array([-1, 0, 1]) / alias_blur) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        disk = _filter_axis(disk / disk.sum(), weights, axis, REFLECT)
    return disk


def zoom(values: Values, factor: float) -> Values:
    """Scale both sides by a factor, with linear interpolation (scipy.ndimage.zoom of order 1)."""
    rows, columns = (np.linspace(0, side - 1, round(side * factor)) for side in values.shape[:2])
    return sample(values, rows[:, None], columns[None, :], SYMMETRIC)


def zoom_in(values: Values, factor: float) -> Values:
    """The middle of a square image, scaled by a factor to the image's own size."""
    side = len(values)
    kept = int(np.ceil(side / factor))
    top = (side - kept) // 2
    large = zoom(values[top : top + kept, top : top + kept], factor)
    trim = (len(large) - side) // 2
    return large[trim : trim + side, trim : trim + side]


def sample(values: Values, rows: Values, columns: Values, border: str) -> Values:
    """The values between pixels, with linear interpolation (scipy.ndimage.map_coordinates of order 1)."""
    rows, columns = np.broadcast_arrays(rows, columns)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (
        (at - whole).reshape(*at.shape, *[1] * (values.ndim - 2)) for at, whole in ((rows, top), (columns, left))
    )
    height, width = values.shape[:2]
    y, x = ([fold(at + step, side, border) for step in (0, 1)] for at, side in ((top, height), (left, width)))
    upper = values[y[0], x[0]] * (1 - right) + values[y[0], x[1]] * right
    lower = values[y[1], x[0]] * (1 - right) + values[y[1], x[1]] * right
    return np.asarray(upper * (1 - down) + lower * down)


def fold(places: npt.NDArray[np.int64], side: int, border: str) -> npt.NDArray[np.int64]:
    """Places outside an image -> the places inside that its mirrored border repeats."""
    period = 2 * side if border == SYMMETRIC else 2 * side - 2
    inside = places % period
    return np.where(inside < side, inside, period - inside - (border == SYMMETRIC))


def blur_along(values: Values, radius: float, deviation: float, degrees: float) -> Values:
    """A blur to one side along an angle (ImageMagick's MotionBlurImage). The border is repeated."""
    count = 2 * int(np.ceil(radius)) + 1
    steps = np.arange(count)
    weights = np.exp(-0.5 * (steps / deviation) ** 2)
    weights /= weights.sum()
    angle, (height, width) = np.radians(degrees), values.shape[:2]
    down, right = (np.ceil(steps * part - 0.5).astype(int) for part in (np.sin(angle), np.cos(angle)))
    results = np.zeros_like(values)
    for weight, dy, dx in zip(weights, down, right, strict=True):
        rows, columns = np.clip(np.arange(height) + dy, 0, height - 1), np.clip(np.arange(width) + dx, 0, width - 1)
        results += weight * values[rows[:, None], columns[None, :]]
    return results
