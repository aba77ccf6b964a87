"""The shape of a model's input -> height, width, channels, and the order in which it takes them.

Enters: the input of a `Source`, and what the user says of it. Leaves: a `Layout`, or Unconvertible with what to say.
Does not know: ranges of pixels, graphs.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np

from serve.model_file.spec import InputSpec
from train.export.foreign.source import Array, Tensor, Unconvertible, list_sides

NHWC, NCHW = "nhwc", "nchw"
CHANNELS = (1, 3)
COLOURS = ("rgb", "bgr", "grey")
LARGEST_SIDE = 2048
"""Pixels. A batch of larger inputs would not fit into memory."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model takes an image."""

    height: int
    width: int
    channels: int
    """What the model takes; a net of three channels may have been trained on grey pictures."""
    order: str
    shape: tuple[int, ...]
    """That of one image as the model takes it, without the batch."""
    dtype: str
    batch: int | None
    """The number of images of a run, if the model fixes it."""
    colour: str

    @property
    def input(self) -> InputSpec:
        """The input of the model file."""
        grey = self.colour == "grey"
        return InputSpec((self.height, self.width, 1 if grey else 3), "uint8", "grey" if grey else "rgb")

    def take_channels(self, pixels: Array) -> Array:
        """Pixels [N, H, W, C] of the model file's channels -> those that the model takes."""
        if self.colour == "bgr":
            return pixels[..., ::-1]
        return pixels.repeat(3, axis=3) if self.colour == "grey" and self.channels == 3 else pixels

    def arrange(self, values: Array) -> Array:
        """Values [N, H, W, C] of the model's channels, as the model takes a batch."""
        if self.order == NCHW:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values.reshape(-1, *self.shape), self.dtype)

    def describe(self) -> str:
        """A sentence for people and the metadata."""
        order = "channels first" if self.order == NCHW else "channels last"
        of = {1: "grey", 3: "RGB"}[self.channels] if self.colour != "bgr" else "BGR"
        return f"input {self.dtype} {list_sides((self.batch, *self.shape))}: {self.height} x {self.width} {of}, {order}"


def find_layout(
    images: Tensor, *, order: str | None = None, size: tuple[int, int] | None = None, colour: str | None = None
) -> Layout:
    """The layout of an input. Raises Unconvertible for what it cannot be, and for what only the user knows."""
    if images.shape is None:
        raise Unconvertible(f"wanted an input whose shape is known, found {images}")
    batch, *sides = images.shape
    if images.dtype not in {"uint8", "float32", "float16", "float64", "int32", "int64", "int8"}:
        raise Unconvertible(f"wanted an input of pixels as numbers, found {images}")
    match len(sides):
        case 3:
            height, width, channels, order = _read_image(images, sides, order, size)
        case 2:
            height, width = _read_sides(images, sides[0], sides[1], size)
            channels, order = 1, NHWC
        case 1:
            height, width, channels, order = _read_flat(images, sides[0], order, size, colour)
        case _:
            raise Unconvertible(f"wanted an input of images, of 2 to 4 sides; found {images}")
    if max(height, width) > LARGEST_SIDE:
        raise Unconvertible(f"wanted an input of at most {LARGEST_SIDE} pixels a side, found {images}")
    shape = _find_shape(len(sides), height, width, channels, order)
    return Layout(height, width, channels, order, shape, images.dtype, batch, _choose_colour(channels, colour, images))


def _find_shape(count: int, height: int, width: int, channels: int, order: str) -> tuple[int, ...]:
    if count == 1:
        return (height * width * channels,)
    if count == 2:
        return height, width
    return (channels, height, width) if order == NCHW else (height, width, channels)


def _choose_colour(channels: int, colour: str | None, images: Tensor) -> str:
    if channels == 1 and colour in ("rgb", "bgr"):
        raise Unconvertible(f"--colour {colour}: wanted grey for a model of one channel, {images}")
    return colour or ("grey" if channels == 1 else "rgb")


def _read_image(
    images: Tensor, sides: list[int | None], order: str | None, size: tuple[int, int] | None
) -> tuple[int, int, int, str]:
    first, last = sides[0] in CHANNELS, sides[2] in CHANNELS
    if order is None and first and last:
        raise Unconvertible(f"wanted --layout nhwc or nchw: either may be meant by the input {images}")
    order = order or (NCHW if first else NHWC if last else None)
    channels = sides[0] if order == NCHW else sides[2]
    if order is None or channels not in CHANNELS:
        if order is None and None in sides:
            raise Unconvertible(f"wanted --layout nhwc or nchw, as the input {images} does not say its channels")
        if channels is not None or order is None:
            raise Unconvertible(f"wanted an input of 1 (grey) or 3 channels (RGB), found {images}")
        channels = 3
    height, width = sides[1:] if order == NCHW else sides[:2]
    return *_read_sides(images, height, width, size), channels, order


def _read_sides(images: Tensor, height: int | None, width: int | None, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        if not height or not width:
            raise Unconvertible(f"wanted --size HEIGHTxWIDTH, as the input {images} takes any")
        return height, width
    if height not in (None, size[0]) or width not in (None, size[1]):
        raise Unconvertible(f"--size {size[0]}x{size[1]}: wanted the size of the input {images}")
    return size


def _read_flat(
    images: Tensor, count: int | None, order: str | None, size: tuple[int, int] | None, colour: str | None
) -> tuple[int, int, int, str]:
    """A row of all pixels: a square of grey or RGB, unless the user says another size."""
    if size is None:
        side = {channels: isqrt((count or 0) // channels) for channels in CHANNELS}
        fitting = [channels for channels in CHANNELS if count and side[channels] ** 2 * channels == count]
        if len(fitting) != 1:
            raise Unconvertible(f"wanted --size HEIGHTxWIDTH, as the rows of {images} may be pictures of any shape")
        size = side[fitting[0]], side[fitting[0]]
    height, width = size
    channels = 1 if colour == "grey" and count is None else (count or 3 * height * width) // (height * width)
    if channels not in CHANNELS or (count or channels * height * width) != channels * height * width:
        raise Unconvertible(f"--size {height}x{width}: wanted 1 or 3 numbers a pixel, found {images}")
    return height, width, channels, order or NHWC
