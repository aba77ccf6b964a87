"""A batch of training images -> the same images, some of them degraded as a recipe says.

Enters: images uint8 [N, H, W, C], a `Degradation`, a generator. Leaves: images uint8 of the same shape.
Does not know: labels, or what is trained. NumPy and Pillow: a seed gives the same images under every backend.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from train.data.datasets import Images
from train.fitting.degradation.files import compress, lose_pixels, reduce_palette
from train.fitting.degradation.grids import blur, turn_and_scale
from train.fitting.degradation.tones import add_noise, change_light, take_colours
from train.recipes.recipe import Degradation

Values = npt.NDArray[np.float32]
Kind = Callable[[Values, np.random.Generator], Values]


def degrade(images: Images, settings: Degradation, random: np.random.Generator) -> Images:
    """Degrade a share of the images uint8 [N, H, W, C]: a new array of the same shape."""
    values = images.astype(np.float32)
    kinds = list_kinds(settings, images.shape[-1])
    counts = random.integers(1, settings.most_kinds + 1, len(images))
    counts[random.random(len(images)) >= settings.share] = 0
    for turn in range(settings.most_kinds):
        drawn = np.where(counts > turn, random.integers(0, len(kinds), len(images)), -1)
        for number, kind in enumerate(kinds):
            chosen = np.flatnonzero(drawn == number)
            if len(chosen):
                values[chosen] = np.clip(kind(values[chosen], random), 0, 255)
    return np.rint(values).astype(np.uint8)


def list_kinds(settings: Degradation, channels: int) -> list[Kind]:
    """The kinds for images of so many channels; each has the same chance. Noise is there twice: it does most harm."""
    kinds: list[Kind] = [
        lambda values, random: add_noise(values, settings.noise, random),
        lambda values, random: add_noise(values, settings.noise, random),
        lambda values, random: blur(values, settings.blur_pixels, random),
        lambda values, random: compress(values, settings.jpeg_quality, random),
        lose_pixels,
        lambda values, random: turn_and_scale(values, settings.rotation_degrees, settings.smallest_scale, random),
        lambda values, random: change_light(values, settings.lowest_contrast, random),
    ]
    return kinds if channels == 1 else [*kinds, reduce_palette, lambda values, random: take_colours(values)]
