"""An image -> the image in snow, fog, or more light, of CIFAR-10-C's severities.

Enters: values float64 [H, W, 3] from 0 to 1, a severity from 1 to 5, a generator. Leaves: values float64.
Does not know: files, models. Frost is left out: it mixes in photographs of frost, which cannot be had under a licence.
The parameters are those of ImageNet-C/create_c/make_cifar_c.py in github.com/hendrycks/robustness.
"""

import numpy as np

from serve.client.corruptions.filters import Values, blur_along, zoom_in

Random = np.random.Generator

SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
"""Mean and standard deviation of the flakes, their scale, the least value of one, radius and standard deviation of
their way down, and the share of the image that is not whitened."""
FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
"""Strength, and the divisor of the differences from each scale of the fog to the next finer one."""
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
"""What is added to the value (HSV)."""
LUMA = (0.299, 0.587, 0.114)


def snow(values: Values, severity: int, random: Random) -> Values:
    """Flakes that fall from one side and from the other, over a whitened image."""
    mean, deviation, scale, least, radius, way, kept = SNOW[severity - 1]
    flakes = zoom_in(random.normal(mean, deviation, values.shape[:2]), scale)
    flakes[flakes < least] = 0
    flakes = np.floor(np.clip(flakes, 0, 1) * 255) / 255
    flakes = np.rint(blur_along(flakes, radius, way, random.uniform(-135, -45)) * 255)[..., None] / 255
    white = (values @ LUMA)[..., None] * 1.5 + 0.5
    return np.asarray(kept * values + (1 - kept) * np.maximum(values, white) + flakes + np.rot90(flakes, 2))


def fog(values: Values, severity: int, random: Random) -> Values:
    """A cloud over the image, whose contrast falls so that the brightest pixel stays in range."""
    strength, decay = FOG[severity - 1]
    cloud = draw_cloud(len(values), decay, random)[..., None]
    return np.asarray((values + strength * cloud) * values.max() / (values.max() + strength))


def draw_cloud(side: int, decay: float, random: Random) -> Values:
    """A cloud [side, side] from 0 to 1 by the diamond-square algorithm. Its borders meet; `side` is a power of two."""
    cloud = np.zeros((side, side))
    step, spread = side, 100.0

    def vary(means: Values) -> Values:
        return np.asarray(means + spread * random.uniform(-spread, spread, means.shape))

    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        rows = corners + np.roll(corners, -1, 0)
        cloud[half::step, half::step] = vary((rows + np.roll(rows, -1, 1)) / 4)
        centres = cloud[half::step, half::step]
        beside = centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1)
        cloud[::step, half::step] = vary(beside / 4)
        below = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0)
        cloud[half::step, ::step] = vary(below / 4)
        step, spread = half, spread / decay
    cloud -= cloud.min()
    return np.asarray(cloud / cloud.max())


def brightness(values: Values, severity: int, random: Random) -> Values:
    """The value (HSV) raised, with the same hue and saturation."""
    highest = values.max(axis=2, keepdims=True)
    raised = np.clip(highest + BRIGHTNESS[severity - 1], 0, 1)
    scales = np.divide(raised, highest, out=np.zeros_like(highest), where=highest > 0)
    return np.asarray(np.where(highest > 0, values * scales, raised))
