"""Values of pixels -> the same pixels with other tones: noise, contrast, brightness, grey.

Enters: values float32 [N, H, W, C] from 0 to 255, limits, a generator. Leaves: values float32 of the same shape, which
may be outside 0 to 255. Does not know: recipes, labels, files.
"""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in a grey value (ITU-R BT.601)."""
MOST_IMPULSES = 0.06
"""Largest share of the values that become black or white."""


def add_noise(values: Values, strongest: float, random: np.random.Generator) -> Values:
    """Add Gaussian noise. Of the images, a third gets it in proportion to brightness, and a third on some pixels alone.

    For half of the images all channels of a pixel get the same noise, as in a picture that was grey once.
    """
    count, *sides = values.shape
    noise = random.standard_normal(values.shape, np.float32)
    noise = np.where(_draw(random, count, 0.3), noise[..., :1], noise)
    strengths = random.uniform(0, strongest, (count, 1, 1, 1)).astype(np.float32)
    kinds = random.integers(0, 3, (count, 1, 1, 1))
    scaled = noise * strengths * np.where(kinds == 1, values / 128, np.float32(1))
    noisy = values + np.where(kinds == 2, 0, scaled)
    chosen = random.random((count, *sides), np.float32) < random.uniform(0, MOST_IMPULSES, (count, 1, 1, 1))
    return np.where((kinds == 2) & chosen, np.where(noise > 0, np.float32(255), np.float32(0)), noisy)


def change_light(values: Values, lowest: float, random: np.random.Generator) -> Values:
    """Change contrast around a level that is drawn, brightness, and the strength of colours."""
    count = len(values)
    factors = random.uniform(lowest, 1.3, (count, 1, 1, 1)).astype(np.float32)
    levels = random.uniform(40, 230, (count, 1, 1, 1)).astype(np.float32)
    levels = np.where(_draw(random, count, 0.5), values.mean(axis=(1, 2, 3), keepdims=True), levels)
    shifts = random.uniform(-50, 50, (count, 1, 1, 1)).astype(np.float32)
    shifts = np.where(_draw(random, count, 0.5), shifts, 0)
    lit = (values - levels) * factors + levels + shifts
    grey = find_grey(lit)
    strengths = random.uniform(lowest, 2.2, (count, 1, 1, 1)).astype(np.float32)
    return np.where(_draw(random, count, 0.5), grey + (lit - grey) * strengths, lit).astype(np.float32)


def take_colours(values: Values) -> Values:
    """Make the images grey."""
    return np.broadcast_to(find_grey(values), values.shape).astype(np.float32)


def find_grey(values: Values) -> Values:
    """The grey values float32 [N, H, W, 1] of values with one or three channels."""
    return values if values.shape[-1] == 1 else (values @ LUMA)[..., None]


def _draw(random: np.random.Generator, count: int, share: float) -> npt.NDArray[np.bool_]:
    """Whether each image is chosen, bool [N, 1, 1, 1]."""
    return random.random((count, 1, 1, 1)) < share
