"""A batch of training images -> the same images, moved by whole pixels and mirrored in every other epoch.

Enters and leaves: uint8 [N, H, W, C]. Does not know: labels, or what is trained. NumPy, and Pillow if images are
degraded: the cost is small beside a net's, and a seed gives the same crops under every backend.
"""

import numpy as np
import numpy.typing as npt

from train.data.datasets import Images
from train.fitting.degradation.apply import degrade
from train.recipes.recipe import Crop

Indices = npt.NDArray[np.int64]

GREY = 128


class Cropper:
    """The crops of one epoch. They depend only on seed, epoch and the part's `places`: a resumed run draws the same."""

    def __init__(self, crop: Crop, places: Indices, *, seed: int, epoch: int) -> None:
        self.crop = crop
        first_coins = np.random.default_rng(seed).integers(0, 2, places.max() + 1)[places]
        self._is_mirrored = (first_coins + epoch) % 2 == 1  # bool [N]
        self._random = np.random.default_rng((seed, epoch, 1))

    def __call__(self, images: Images, indices: Indices) -> Images:
        """Crop images uint8 [N, H, W, C], which stand at `indices` int64 [N] in the training part: same shape."""
        mirrored = np.where(self._is_mirrored[indices, None, None, None], images[:, :, ::-1], images)
        moved = shift_images(mirrored, self._draw_shifts(len(images)))
        if self.crop.degradation:
            moved = degrade(moved, self.crop.degradation, self._random)
        if self.crop.cutout_pixels:
            cut_out(moved, self.crop.cutout_pixels, self._random)
        return moved

    def _draw_shifts(self, count: int) -> Indices:
        reach = self.crop.shift_pixels
        return self._random.integers(-reach, reach + 1, (count, 2))


def move_often(images: Images, crop: Crop, times: int) -> Images:
    """Repeat images uint8 [N, H, W, C], each time with other shifts and no cutout: uint8 [times N, H, W, C]."""
    random, reach = np.random.default_rng(0), crop.shift_pixels
    draws = (random.integers(-reach, reach + 1, (len(images), 2)) for _ in range(times))
    return np.concatenate([shift_images(images, shifts) for shifts in draws])


def shift_images(images: Images, shifts: Indices) -> Images:
    """Move images uint8 [N, H, W, C] by whole pixels int [N, 2] (down, right). The border mirrors the image."""
    reach = int(np.abs(shifts).max(initial=0))
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    chosen = windows[np.arange(len(images)), reach - shifts[:, 0], reach - shifts[:, 1]]  # [N, C, H, W]
    return np.ascontiguousarray(chosen.transpose(0, 2, 3, 1))


def cut_out(images: Images, side: int, random: np.random.Generator, level: int = GREY) -> None:
    """Give a square of `side` pixels one level in each image uint8 [N, H, W, C], in place, at a random position."""
    height, width = images.shape[1:3]
    tops, lefts = (random.integers(0, length - side + 1, len(images))[:, None, None] for length in (height, width))
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    inside = (rows >= tops) & (rows < tops + side) & (columns >= lefts) & (columns < lefts + side)
    images[inside] = level
