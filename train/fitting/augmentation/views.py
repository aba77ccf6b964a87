"""Images and an augmentation -> the same images drawn anew, as people draw or frame them.

Enters and leaves: uint8 [N, H, W, C]. Does not know: labels, nets, what the views are for. Training sees them.
Familiarity is fitted and calibrated on them, too: of a pen that is thinner than the dataset's, more than a threshold's
share would be turned away.
"""

import numpy as np

from serve.model_file.spec import PrepareSpec
from train.data.datasets import Images, choose_batch_size
from train.data.handwriting.prepared import draw_as_people
from train.fitting.augmentation.augment import Augment
from train.fitting.augmentation.crop import Indices, cut_out, move_often
from train.recipes.recipe import Augmentation, Crop


class Redrawer:
    """The images of one epoch, a share of them as people's pictures give them, each without a square.

    They depend only on seed and epoch: a resumed run draws the same.
    """

    def __init__(self, augmentation: Augmentation, drawn: Images | None, *, seed: int, epoch: int) -> None:
        """`drawn` uint8 [N, H, W, C] are the pictures of all images of the training part; None shows none."""
        self._augmentation = augmentation
        self._drawn = drawn
        self._random = np.random.default_rng((seed, epoch, 2))

    def __call__(self, images: Images, indices: Indices) -> Images:
        """Change images uint8 [N, H, W, C], which stand at `indices` int64 [N] in the training part: same shape."""
        changed = images.copy()
        if self._drawn is not None:
            chosen = self._random.random(len(images)) < self._augmentation.people
            changed[chosen] = self._drawn[indices[chosen]]
        if self._augmentation.cutout_pixels:
            cut_out(changed, self._augmentation.cutout_pixels, self._random, level=0)
        return changed


def draw_views(
    images: Images, augmentation: Augmentation | Crop | None, prepare: PrepareSpec, *, seed: int
) -> list[Images]:
    """The images as they are, and once as in training, without cutout; only as they are if nothing changes them.

    Where training sees people's pictures, these are a third view. `prepare` makes images of them.
    """
    if augmentation is None:
        return [images]
    if isinstance(augmentation, Crop):
        return [images, move_often(images, augmentation, 1)]
    augment, size = Augment(augmentation, seed), choose_batch_size(images)
    starts = range(0, len(images), size)
    views = [images, np.concatenate([np.asarray(augment(images[at : at + size], training=True)) for at in starts])]
    return [*views, draw_as_people(images, prepare, seed=seed)] if augmentation.people else views
