"""Images and an augmentation -> the same images drawn anew, as people draw or frame them.

Enters and leaves: uint8 [N, H, W, C]. Does not know: labels, nets, what the views are for. Familiarity is fitted and
calibrated on them: of a pen that is thinner than the dataset's, more than a threshold's share would be turned away.
"""

import numpy as np

from train.data.datasets import Images, choose_batch_size
from train.fitting.augment import Augment
from train.fitting.crop import move_often
from train.recipes.recipe import Augmentation, Crop


def draw_views(images: Images, augmentation: Augmentation | Crop | None, *, seed: int) -> list[Images]:
    """The images as they are, and once as in training, without cutout; only as they are if nothing changes them."""
    if augmentation is None:
        return [images]
    if isinstance(augmentation, Crop):
        return [images, move_often(images, augmentation, 1)]
    augment, size = Augment(augmentation, seed), choose_batch_size(images)
    starts = range(0, len(images), size)
    return [images, np.concatenate([np.asarray(augment(images[at : at + size], training=True)) for at in starts])]
