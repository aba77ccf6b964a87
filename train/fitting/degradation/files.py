"""Values of pixels -> what is left of them after a file with losses: JPEG, a palette, fewer pixels.

Enters: values float32 [N, H, W, C] from 0 to 255, limits, a generator. Leaves: values float32 of the same shape.
Does not know: recipes, labels. Pillow takes one image at a time; images of this size cost it little.
"""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Values = npt.NDArray[np.float32]

QUALITY_STEP = 4
"""From the lowest quality in such steps; from 23 these are none of the qualities that CIFAR-10-C measures."""
HIGHEST_QUALITY = 95
LOWEST_SHARE = 0.45
"""Smallest share of the sides that is left by `lose_pixels`."""
FEWEST_LEVELS, MOST_LEVELS = 3, 8
FILTERS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


def compress(values: Values, lowest_quality: int, random: np.random.Generator) -> Values:
    """Write each image as a JPEG and read it back."""

    def change(image: Image.Image) -> Image.Image:
        quality = lowest_quality + QUALITY_STEP * int(
            random.integers(0, (HIGHEST_QUALITY - lowest_quality) // QUALITY_STEP + 1)
        )
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling=int(random.choice((0, 2))))
        return Image.open(buffer)

    return _change_each(values, change)


def reduce_palette(values: Values, random: np.random.Generator) -> Values:
    """Give each image few colours: the web palette's with dithering, or a few levels of each channel."""
    is_web = random.random(len(values)) < 0.5
    steps = random.integers(FEWEST_LEVELS, MOST_LEVELS + 1, (len(values), 1, 1, 1)) - 1
    reduced = (np.rint(values / 255 * steps) * (255 / steps)).astype(np.float32)
    if is_web.any():
        reduced[is_web] = _change_each(values[is_web], lambda image: image.convert("P"))
    return reduced


def lose_pixels(values: Values, random: np.random.Generator) -> Values:
    """Scale each image down and up again."""

    def change(image: Image.Image) -> Image.Image:
        share = random.uniform(LOWEST_SHARE, 1)
        small = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        upwards = FILTERS[int(random.integers(len(FILTERS)))]
        return image.resize(small, Image.Resampling.BOX).resize(image.size, upwards)

    return _change_each(values, change)


def _change_each(values: Values, change: Callable[[Image.Image], Image.Image]) -> Values:
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    is_grey = values.shape[-1] == 1
    images = (Image.fromarray(each[..., 0] if is_grey else each) for each in pixels)
    changed = [np.asarray(change(image).convert("L" if is_grey else "RGB")) for image in images]
    return np.stack(changed).reshape(values.shape).astype(np.float32)
