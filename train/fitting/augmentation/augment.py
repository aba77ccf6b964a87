"""A batch of training images -> the same images, each rotated, moved and scaled a little at random.

Enters and leaves: uint8 [N, H, W, C]. Does not know: labels, or what is trained. Plain Keras 3: any backend.

Rotation, shift, zoom, shear and flip are one affine transform with one bilinear interpolation, which repeats the
border, as in Keras' ImageDataGenerator. A chain of Keras' layers would interpolate several times, blur the image and
cost accuracy.
"""

import math
from typing import Any

import keras
from keras import ops

from train.recipes.recipe import Augmentation


class Augment(keras.layers.Layer):
    """Augments images in training and hands them through otherwise. The exported model does not contain it."""

    def __init__(self, augmentation: Augmentation, seed: int) -> None:
        super().__init__(name="augment", dtype="float32")  # bfloat16 has too few bits for coordinates
        self.augmentation = augmentation
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Augment images uint8 [N, H, W, C]: same shape and dtype."""
        if not training:
            return images
        transforms = draw_transforms(self.augmentation, ops.shape(images), self.seeds)
        moved = transform_images(images, transforms)
        if not (self.augmentation.stroke or self.augmentation.blur):
            return moved
        stroke, blur = draw_strokes(self.augmentation, ops.shape(images)[0], self.seeds)
        return redraw_strokes(moved, stroke, blur)


def transform_images(images: Any, transforms: Any) -> Any:
    """Apply transforms float32 [N, 8] of `draw_transforms` to images uint8 [N, H, W, C]: same shape and dtype."""
    moved = ops.image.affine_transform(
        ops.cast(images, "float32"), transforms, "bilinear", fill_mode="nearest", data_format="channels_last"
    )
    return ops.cast(ops.round(moved), "uint8")


def draw_transforms(augmentation: Augmentation, shape: Any, seeds: keras.random.SeedGenerator) -> Any:
    """Draw a transform for each image of a batch of `shape` (N, H, W, C): float32 [N, 8].

    The output at p, counted from the centre, is the input at R(Z F S p + t). S is the shear, F the flip, Z the zoom,
    t the shift and R the rotation. `keras.ops.image.affine_transform` defines the eight numbers.
    """
    count, height, width = shape[0], shape[1], shape[2]
    draws = keras.random.uniform((6, count), -1.0, 1.0, dtype="float32", seed=seeds)
    angle = draws[0] * math.radians(augmentation.rotation_degrees)
    shift_x, shift_y = draws[1] * augmentation.shift * width, draws[2] * augmentation.shift * height
    zoom_x, zoom_y = 1 + draws[3] * augmentation.zoom, 1 + draws[4] * augmentation.zoom
    if augmentation.horizontal_flip:
        zoom_x = ops.where(draws[5] < 0, -zoom_x, zoom_x)
    shear = 0.0
    if augmentation.shear:  # drawn only if set, so that older recipes draw the same numbers as before
        shear = augmentation.shear * keras.random.uniform((count,), -1.0, 1.0, dtype="float32", seed=seeds)
    return _compose(angle, (shift_x, shift_y), (zoom_x, zoom_y), shear, ((width - 1) / 2, (height - 1) / 2))


def draw_strokes(augmentation: Augmentation, count: Any, seeds: keras.random.SeedGenerator) -> tuple[Any, Any]:
    """Draw how far strokes grow (negative: shrink) and how far they are blurred, each float32 [N, 1, 1, 1]."""
    draws = keras.random.uniform((2, count, 1, 1, 1), dtype="float32", seed=seeds)
    return augmentation.stroke * (2 * draws[0] - 1), augmentation.blur * draws[1]


def redraw_strokes(images: Any, stroke: Any, blur: Any) -> Any:
    """Mix images uint8 [N, H, W, C] with their 3 x 3 dilation or erosion, then with their 3 x 3 mean: same shape."""
    values = ops.cast(images, "float32")
    lightest = ops.max_pool(values, 3, strides=1, padding="same")
    darkest = -ops.max_pool(-values, 3, strides=1, padding="same")
    values += ops.relu(stroke) * (lightest - values) + ops.relu(-stroke) * (darkest - values)
    values += blur * (ops.average_pool(values, 3, strides=1, padding="same") - values)
    return ops.cast(ops.round(values), "uint8")


def _compose(angle: Any, shift: tuple[Any, Any], zoom: tuple[Any, Any], shear: Any, centre: tuple[Any, Any]) -> Any:
    cosine, sine = ops.cos(angle), ops.sin(angle)
    (shift_x, shift_y), (zoom_x, zoom_y), (centre_x, centre_y) = shift, zoom, centre
    xx, yx = cosine * zoom_x, sine * zoom_x
    xy, yy = shear * xx - sine * zoom_y, shear * yx + cosine * zoom_y
    x = cosine * shift_x - sine * shift_y + centre_x - xx * centre_x - xy * centre_y
    y = sine * shift_x + cosine * shift_y + centre_y - yx * centre_x - yy * centre_y
    zero = ops.zeros_like(x)
    return ops.stack([xx, xy, x, yx, yy, y, zero, zero], axis=1)
