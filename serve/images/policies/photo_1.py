"""`photo/1`: a photo upright in RGB, cropped at the centre to the model's aspect ratio, scaled with antialiasing.

Enters: a decoded image. Leaves: uint8 [H, W, 3]. Does not know: image files, models.
"""

import numpy as np
from PIL import Image

from serve.images.pixels import Pixels, Policy, Report, convert, over_white, upright


def photo_1(width: int, height: int) -> Policy:
    """The policy for a model's width and height. It leaves an RGB image of that size unchanged."""

    def prepare(image: Image.Image, report: Report | None = None, /) -> Pixels:
        rgb = upright_rgb(image)
        del image  # a large one takes much memory
        if report:
            report.add_step("levels", rgb)
        return scale(rgb, width, height)

    return prepare


def upright_rgb(image: Image.Image) -> Image.Image:
    """The image upright, laid over white, in RGB."""
    image = upright(image)  # the caller's is let go of, for a large one takes much memory
    rgb = over_white(image)
    return rgb if rgb.mode == "RGB" else convert(rgb, "RGB")


def scale(rgb: Image.Image, width: int, height: int) -> Pixels:
    """The centre of an RGB image at the model's size."""
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BICUBIC, box=find_centre(rgb.size, width / height))
    return np.frombuffer(rgb.tobytes(), np.uint8).reshape(height, width, 3)


def find_centre(size: tuple[int, int], aspect: float) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) with an aspect ratio, in pixels of the image."""
    width, height = size
    wide, high = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
