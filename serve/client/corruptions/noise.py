"""An image -> the image with noise, of CIFAR-10-C's severities.

Enters: values float64 [H, W, 3] from 0 to 1, a severity from 1 to 5, a generator. Leaves: values float64, which may be
outside 0 to 1. Does not know: files, models.
The parameters are those of ImageNet-C/create_c/make_cifar_c.py in github.com/hendrycks/robustness.
"""

import numpy as np

from serve.client.corruptions.filters import Values

Random = np.random.Generator

GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)
"""Standard deviation."""
SHOT = (500, 250, 100, 75, 50)
"""Photons of a white pixel."""
IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)
"""Share of the values that become 0 or 1."""
SPECKLE = (0.06, 0.1, 0.12, 0.16, 0.2)
"""Standard deviation, as a share of the value."""


def gaussian_noise(values: Values, severity: int, random: Random) -> Values:
    """Normal noise on each value."""
    return values + random.normal(scale=GAUSSIAN[severity - 1], size=values.shape)


def shot_noise(values: Values, severity: int, random: Random) -> Values:
    """The noise of counted photons (Poisson)."""
    photons = SHOT[severity - 1]
    return random.poisson(values * photons) / photons


def impulse_noise(values: Values, severity: int, random: Random) -> Values:
    """Some values become 0, and as many 1 (skimage.util.random_noise, s&p)."""
    is_flipped = random.random(values.shape) <= IMPULSE[severity - 1]
    is_white = random.random(values.shape) <= 0.5
    return np.where(is_flipped, is_white.astype(np.float64), values)


def speckle_noise(values: Values, severity: int, random: Random) -> Values:
    """Normal noise in proportion to each value."""
    return values + values * random.normal(scale=SPECKLE[severity - 1], size=values.shape)
