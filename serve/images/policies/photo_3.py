"""`photo/3`: a photo scaled and cropped as the pictures were on which a net from elsewhere was trained.

Enters: a decoded image. Leaves: uint8 [H, W, 3] or [H, W, 1]. Does not know: image files, models.
The scale and the crop are those of torchvision's Resize and CenterCrop on Pillow images. Only the pixels of the crop
are computed, so that a strip of one pixel's width takes no more memory than a photo.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from serve.images.pixels import Pixels, Policy, Report, convert, over_white, upright

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
_POINT_FILTERS = ("nearest", "bilinear", "bicubic")
"""Filters that exist without antialiasing."""
_MOST_RESIZE = 65_535

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of an image."""


@dataclass(frozen=True, slots=True)
class _Scaling:
    """What the parameters say."""

    width: int
    height: int
    resize: int
    crop: bool
    interpolation: str
    antialias: bool

    def __post_init__(self) -> None:
        kinds = (type(self.resize), type(self.crop), type(self.interpolation), type(self.antialias))
        # A crop is no larger than what it is cut from; without one, there is no shorter side to choose.
        least, most = (min(self.width, self.height), _MOST_RESIZE) if self.crop else (0, 0)
        filters = tuple(_FILTERS) if self.antialias else _POINT_FILTERS
        if kinds != (int, bool, str, bool) or not least <= self.resize <= most or self.interpolation not in filters:
            raise TypeError("parameters")  # find_policy makes it UnknownPolicy

    def find_box(self, size: tuple[int, int]) -> Box:
        """The part of an image of this size that becomes the input."""
        if not self.crop:
            return 0, 0, *size
        goal, scaled = (self.width, self.height), self._scale(size)
        starts = [round((long - room) / 2.0) for long, room in zip(scaled, goal, strict=True)]
        (left, right), (top, bottom) = (
            (start * side / long, (start + room) * side / long)
            for start, room, side, long in zip(starts, goal, size, scaled, strict=True)
        )
        return left, top, right, bottom

    def _scale(self, size: tuple[int, int]) -> list[int]:
        """The sides of the scaled picture: the shorter one is `resize`, or more if an oblong input does not fit in."""
        shorter, goal = min(size), (self.width, self.height)
        scaled = [self.resize if side == shorter else int(self.resize * side / shorter) for side in size]
        if all(long >= room for long, room in zip(scaled, goal, strict=True)):
            return scaled
        factor = max(room / side for room, side in zip(goal, size, strict=True))
        return [max(room, round(side * factor)) for room, side in zip(goal, size, strict=True)]

    def apply(self, image: Image.Image) -> Image.Image:
        box, goal, kind = self.find_box(image.size), (self.width, self.height), _FILTERS[self.interpolation]
        if box == (0, 0, *image.size) and goal == image.size:
            return image
        if self.antialias:
            return image.resize(goal, kind, box=box)
        return image.transform(goal, Image.Transform.EXTENT, box, Image.Resampling(kind))


def make_photo_3(mode: str) -> Callable[..., Policy]:
    """The policies for inputs of Pillow's mode RGB or L."""

    def photo_3(width: int, height: int, *, resize: int, crop: bool, interpolation: str, antialias: bool) -> Policy:
        """The policy for a model's width and height.

        With `crop` the shorter side is scaled to `resize` pixels, or more where an oblong input needs it, and the
        centre is cut out. Without it the whole picture is scaled to the input, and `resize` is 0. `antialias` averages
        over all pixels that become one.
        """
        scaling = _Scaling(width, height, resize, crop, interpolation, antialias)

        def prepare(image: Image.Image, report: Report | None = None, /) -> Pixels:
            image = upright(image)  # the caller's is let go of, for a large one takes much memory
            flat = over_white(image)
            if flat.mode != mode:
                flat = convert(flat, mode)
            return np.frombuffer(scaling.apply(flat).tobytes(), np.uint8).reshape(height, width, len(mode))

        return prepare

    return photo_3
