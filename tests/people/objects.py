"""CIFAR-10's images -> pictures as people and their programs have them.

Enters: pixels uint8 [32, 32, 3] and a random generator. Leaves: the bytes of an image file. Does not know: models.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

from serve.images.pixels import Pixels

Draw = Callable[[Image.Image, np.random.Generator], bytes]


def encode(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def add_noise(image: Image.Image, rng: np.random.Generator) -> bytes:
    """A sensor's noise of 8 levels."""
    noisy = np.asarray(image) + rng.normal(0, 8, (image.height, image.width, 3))
    return encode(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)))


def turn(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Fifteen degrees to either side; the border goes on outwards."""
    pixels = np.pad(np.asarray(image), ((8, 8), (8, 8), (0, 0)), "reflect")
    angle = 15 if rng.random() < 0.5 else -15
    return encode(Image.fromarray(pixels).rotate(angle, Image.Resampling.BICUBIC).crop((8, 8, 40, 40)))


def shrink_object(image: Image.Image, _rng: np.random.Generator) -> bytes:
    """The object at two thirds of the picture: what is around it goes on by reflection."""
    return encode(Image.fromarray(np.pad(np.asarray(image), ((8, 8), (8, 8), (0, 0)), "reflect")))


def add_margins(image: Image.Image, rng: np.random.Generator) -> bytes:
    """Even margins of a quarter of the picture's side, white, black or grey."""
    page = Image.new("RGB", (64, 64), ((255,) * 3, (0,) * 3, (128,) * 3)[int(rng.integers(3))])
    page.paste(image, (16, 16))
    return encode(page)


def _enlarged(format_name: str, **options: object) -> Draw:
    return lambda image, _: encode(image.resize((256, 256), Image.Resampling.BICUBIC), format_name, **options)


def _as_jpeg(quality: int) -> Draw:
    return lambda image, _: encode(image, "JPEG", quality=quality)


def _with_alpha(image: Image.Image, _rng: np.random.Generator) -> bytes:
    return encode(image.convert("RGBA"))


def _turned_by_exif(image: Image.Image, _rng: np.random.Generator) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


OBJECT_ROWS: Mapping[str, Draw] = {
    "plain": lambda image, _: encode(image),
    "noise 8": add_noise,
    "JPEG 75": _as_jpeg(75),
    "JPEG 50": _as_jpeg(50),
    "JPEG 30": _as_jpeg(30),
    "blur 0.8": lambda image, _: encode(image.filter(ImageFilter.GaussianBlur(0.8))),
    "turned 15": turn,
    "two thirds": shrink_object,
    "margins 25%": add_margins,
    "grey": lambda image, _: encode(image.convert("L")),
    "8 times, PNG": _enlarged("PNG"),
    "8 times, JPEG": _enlarged("JPEG", quality=90),
    "8 times, WebP": _enlarged("WEBP", quality=90),
    "8 times, BMP": _enlarged("BMP"),
    "8 times, CMYK": lambda image, _: encode(
        image.resize((256, 256), Image.Resampling.BICUBIC).convert("CMYK"), "JPEG", quality=95
    ),
    "GIF, web palette": lambda image, _: encode(image.convert("P", palette=Image.Palette.WEB), "GIF"),
    "RGBA": _with_alpha,
    "EXIF": _turned_by_exif,
}
"""The kinds of pictures, each with what draws it."""


def draw_object(pixels: Pixels, row: str, rng: np.random.Generator) -> bytes:
    """The file of one picture of a kind."""
    return OBJECT_ROWS[row](Image.fromarray(pixels), rng)
