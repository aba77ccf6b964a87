"""An image -> the image blurred, of CIFAR-10-C's severities.

Enters: values float64 [H, W, 3] from 0 to 1, a severity from 1 to 5, a generator. Leaves: values float64.
Does not know: files, models.
The parameters are those of ImageNet-C/create_c/make_cifar_c.py in github.com/hendrycks/robustness.
"""

import numpy as np

from serve.client.corruptions.filters import Values, blur, blur_along, correlate, make_disk, zoom_in

Random = np.random.Generator

DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
"""Radius of the disk, and standard deviation of the blur of its edge, in pixels."""
GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
"""Standard deviation of both blurs, longest way of a pixel, and number of rounds."""
MOTION = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
"""Radius and standard deviation, in pixels."""
ZOOM = (1.06, 1.11, 1.16, 1.21, 1.26)
"""End of the factors, which begin with 1 and grow by 0.01; the end is not one of them."""
GAUSSIAN = (0.4, 0.6, 0.7, 0.8, 1)
"""Standard deviation in pixels."""


def defocus_blur(values: Values, severity: int, random: Random) -> Values:
    """The blur of a lens out of focus."""
    return correlate(values, make_disk(*DEFOCUS[severity - 1]))


def glass_blur(values: Values, severity: int, random: Random) -> Values:
    """A blur, pixels that take the place of others near them, and a blur.

    The published code means to swap two pixels. In effect the first becomes a copy of the second, so that is done here.
    """
    deviation, reach, rounds = GLASS[severity - 1]
    pixels, side = np.floor(blur(values, deviation) * 255), len(values)
    for _ in range(rounds):
        for row in range(side - reach, reach, -1):
            for column in range(side - reach, reach, -1):
                right, down = random.integers(-reach, reach, 2)
                pixels[row, column] = pixels[row + down, column + right]
    return blur(pixels / 255, deviation)


def motion_blur(values: Values, severity: int, random: Random) -> Values:
    """The blur of a moving camera, in a direction up to 45 degrees from the horizontal."""
    radius, deviation = MOTION[severity - 1]
    return np.rint(blur_along(values, radius, deviation, random.uniform(-45, 45)) * 255) / 255


def zoom_blur(values: Values, severity: int, random: Random) -> Values:
    """The mean of the image and of its middle at growing scales."""
    factors = np.arange(1, ZOOM[severity - 1], 0.01)
    return np.asarray((values + sum(zoom_in(values, factor) for factor in factors)) / (len(factors) + 1))


def gaussian_blur(values: Values, severity: int, random: Random) -> Values:
    """A Gaussian blur."""
    return blur(values, GAUSSIAN[severity - 1])
