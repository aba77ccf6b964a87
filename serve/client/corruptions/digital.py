"""An image -> the image with another contrast, displaced, or stored with losses, of CIFAR-10-C's severities.

Enters: values float64 [H, W, 3] from 0 to 1, a severity from 1 to 5, a generator. Leaves: values float64.
Does not know: files on a disk, models.
The parameters are those of ImageNet-C/create_c/make_cifar_c.py in github.com/hendrycks/robustness.
"""

import io

import numpy as np
from PIL import Image

from serve.client.corruptions.filters import REFLECT, SYMMETRIC, Values, blur, sample

Random = np.random.Generator

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
"""Share of the contrast that is left."""
ELASTIC = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
"""Strength and smoothness of the waves, and largest move of the corners, all as shares of the side."""
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
"""Share of the side that is left."""
JPEG = (80, 65, 58, 50, 40)
"""Quality."""
SATURATE = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))
"""Factor of the saturation (HSV), and what is added to it."""


def contrast(values: Values, severity: int, random: Random) -> Values:
    """Each channel drawn to its mean."""
    means = values.mean(axis=(0, 1), keepdims=True)
    return np.asarray((values - means) * CONTRAST[severity - 1] + means)


def elastic_transform(values: Values, severity: int, random: Random) -> Values:
    """Three corners moved, then waves in both directions."""
    side = len(values)
    strength, smoothness, reach = (side * share for share in ELASTIC[severity - 1])
    rows, columns = (grid.astype(np.float64) for grid in np.mgrid[:side, :side])
    moved = sample(values, *_find_sources(rows, columns, reach, random), REFLECT)
    waves = [blur(random.uniform(-1, 1, (side, side)), smoothness, SYMMETRIC, 3) * strength for _ in range(2)]
    return sample(moved, rows + waves[1], columns + waves[0], SYMMETRIC)


def _find_sources(rows: Values, columns: Values, reach: float, random: Random) -> tuple[Values, Values]:
    """Where each pixel comes from if three corners of a square are moved at random (cv2.warpAffine)."""
    centre, third = len(rows) // 2, len(rows) // 3
    before = np.array([[third, third], [third, -third], [-third, -third]]) + centre  # x, y
    after = before + random.uniform(-reach, reach, (3, 2))
    back = np.linalg.solve(np.column_stack([after, np.ones(3)]), before)  # [x, y, 1] @ back is the place before
    x, y = np.moveaxis(np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ back, -1, 0)
    return y, x


def pixelate(values: Values, severity: int, random: Random) -> Values:
    """Fewer pixels, each larger."""
    image = _to_image(values)
    small = [int(side * PIXELATE[severity - 1]) for side in image.size]
    return _to_values(image.resize((small[0], small[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX))


def jpeg_compression(values: Values, severity: int, random: Random) -> Values:
    """Written as a JPEG and read back."""
    buffer = io.BytesIO()
    _to_image(values).save(buffer, "JPEG", quality=JPEG[severity - 1])
    return _to_values(Image.open(buffer))


def saturate(values: Values, severity: int, random: Random) -> Values:
    """Another saturation (HSV), with the same hue and value. A grey pixel has the hue of red."""
    factor, added = SATURATE[severity - 1]
    highest, lowest = values.max(axis=2, keepdims=True), values.min(axis=2, keepdims=True)
    before = np.divide(highest - lowest, highest, out=np.zeros_like(highest), where=highest > 0)
    after = np.clip(before * factor + added, 0, 1)
    scales = np.divide(after, before, out=np.zeros_like(before), where=before > 0)
    red = highest * np.concatenate([np.ones_like(after), 1 - after, 1 - after], axis=2)
    return np.asarray(np.where(before > 0, highest - (highest - values) * scales, red))


def _to_image(values: Values) -> Image.Image:
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _to_values(image: Image.Image) -> Values:
    return np.asarray(image, np.float64) / 255
