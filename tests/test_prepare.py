"""serve.prepare: whatever is sent becomes what the model was trained on; what is that already is left alone."""

import io
import struct
import subprocess
import sys
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Png
from PIL import Image, ImageDraw

from serve.decode import decode
from serve.errors import UnknownPolicy, UnreadableImage
from serve.model_file import InputSpec, PrepareSpec
from serve.prepare import Pixels, Policy, find_policy

GREY_28 = InputSpec((28, 28, 1), "uint8", "grey")
RGB_32 = InputSpec((32, 32, 3), "uint8", "rgb")
DIGIT = find_policy(PrepareSpec("digit", 1, {"box": 20}), GREY_28)
PHOTO = find_policy(PrepareSpec("photo", 1, {}), RGB_32)
WHITE = 255
ORIENTATION = 0x0112
SEVEN = ((2, 3), (14, 2), (7, 20))
ONE = ((5, 2), (6, 21))
EL = ((3, 2), (3, 20), (16, 20))
# How each EXIF orientation stores an upright picture: what turns it back, undone.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def draw_strokes(
    points: tuple[tuple[int, int], ...], *, scale: int = 1, at: tuple[int, int] = (20, 30), side: int = 200
) -> Image.Image:
    """Black strokes on white paper, grey levels, `side` x `side`."""
    small = Image.new("L", (20, 24), WHITE)
    ImageDraw.Draw(small).line(points, fill=0, width=3)
    image = Image.new("L", (side, side), WHITE)
    image.paste(small.resize((20 * scale, 24 * scale), Image.Resampling.NEAREST), at)
    return image


def draw_photo(width: int = 32, height: int = 32) -> Image.Image:
    """RGB noise: no two pixels are alike, so nothing that is moved or smoothed stays unnoticed."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def encode(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def reopen(image: Image.Image, format_name: str = "PNG", **options: object) -> Image.Image:
    """An image as it comes from a file."""
    return decode(encode(image, format_name, **options), 1_000_000)


def exif_of(orientation: int) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def differ(first: Pixels, second: Pixels) -> float:
    """The mean difference of two images, in levels."""
    return float(np.abs(first.astype(int) - second).mean())


def mass_centre(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Row and column of the centre of mass, where the first pixel's middle is at 0.5."""
    weights = pixels[..., 0].astype(np.float64)
    rows, columns = np.indices(weights.shape) + 0.5
    return np.array([(weights * rows).sum(), (weights * columns).sum()]) / weights.sum()


def test_an_image_like_mnists_comes_out_bit_for_bit() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 6:20] = np.random.default_rng(0).integers(0, 256, (20, 14))
    np.testing.assert_array_equal(DIGIT(reopen(Image.fromarray(pixels)))[..., 0], pixels)


@pytest.mark.parametrize("band", range(3))
def test_an_image_in_the_models_size_and_mode_comes_out_bit_for_bit(png: Png, band: int) -> None:
    policy = find_policy(PrepareSpec("digit", 1, {"box": 8}), InputSpec((12, 12, 1), "uint8", "grey"))
    image = decode(png(band, mode="L"), 1_000)
    np.testing.assert_array_equal(policy(image)[..., 0], np.asarray(image))


@pytest.mark.parametrize("orientation", [None, 1])
def test_an_rgb_image_of_the_models_size_comes_out_bit_for_bit(orientation: int | None) -> None:
    options = {"exif": exif_of(orientation)} if orientation else {}
    np.testing.assert_array_equal(PHOTO(reopen(draw_photo(), **options)), np.asarray(draw_photo()))


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
def test_light_strokes_on_dark_paper_give_what_dark_strokes_on_light_paper_give(
    points: tuple[tuple[int, int], ...],
) -> None:
    image = draw_strokes(points)
    inverted = image.point([WHITE - level for level in range(256)])
    assert differ(DIGIT(image), DIGIT(inverted)) < 0.5


def test_an_image_of_the_models_size_on_light_paper_is_turned_to_strokes_on_dark() -> None:
    image = Image.new("L", (28, 28), WHITE)
    ImageDraw.Draw(image).line((8, 4, 18, 24), fill=0, width=3)
    found = DIGIT(image)[..., 0]
    assert found.max() == WHITE
    assert found[0].max() == found[:, 0].max() == 0


@pytest.mark.parametrize("at", [(0, 0), (1, 100), (170, 3), (90, 90)])
def test_the_place_of_the_strokes_does_not_matter(at: tuple[int, int]) -> None:
    np.testing.assert_array_equal(DIGIT(draw_strokes(SEVEN, at=at)), DIGIT(draw_strokes(SEVEN)))


@pytest.mark.parametrize("scale", [2, 3, 7])
def test_the_size_of_the_strokes_hardly_matters(scale: int) -> None:
    small, large = draw_strokes(SEVEN), draw_strokes(SEVEN, scale=scale, side=300)
    assert differ(DIGIT(small), DIGIT(large)) < 5


def test_other_strokes_give_other_pixels() -> None:
    """What the tests above allow as a small difference is far below that of two digits."""
    assert differ(DIGIT(draw_strokes(SEVEN)), DIGIT(draw_strokes(EL))) > 30


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_centre_of_mass_is_the_centre(points: tuple[tuple[int, int], ...], scale: int) -> None:
    found = DIGIT(draw_strokes(points, scale=scale))
    assert np.abs(mass_centre(found) - 14).max() <= 0.51, "more than the half pixel that rounding costs"


@pytest.mark.parametrize("points", [SEVEN, ONE, EL])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_strokes_fill_the_box_on_their_longer_side(points: tuple[tuple[int, int], ...], scale: int) -> None:
    rows, columns = np.nonzero(DIGIT(draw_strokes(points, scale=scale))[..., 0])
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(height, width) == 20
    drawn = np.argwhere(np.asarray(draw_strokes(points)) == 0)
    drawn_height, drawn_width = np.ptp(drawn, axis=0) + 1
    assert abs(width / height - drawn_width / drawn_height) < 0.1


@pytest.mark.parametrize("level", [0, 100, 127, 128, 255])
@pytest.mark.parametrize("size", [(29, 28), (1, 1), (300, 20)])
def test_a_blank_image_gives_zeros(level: int, size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(DIGIT(Image.new("L", size, level)), np.zeros((28, 28, 1)))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_image_of_the_models_size_gives_zeros(level: int) -> None:
    """But for the dark greys, which are left alone like any image with a dark border."""
    np.testing.assert_array_equal(DIGIT(Image.new("L", (28, 28), level)), np.zeros((28, 28, 1)))


def test_a_single_pixel_is_a_photo_of_its_colour() -> None:
    assert (PHOTO(Image.new("RGB", (1, 1), (10, 20, 30))) == (10, 20, 30)).all()


def test_a_single_dark_pixel_is_a_stroke_that_fills_the_box() -> None:
    image = Image.new("L", (50, 50), WHITE)
    image.putpixel((3, 44), 0)
    found = DIGIT(image)[..., 0]
    assert (found[4:24, 4:24] == WHITE).all()
    assert found.sum() == 20 * 20 * WHITE


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_a_strip_takes_no_memory_to_speak_of(size: tuple[int, int]) -> None:
    """Scaled to the model's shorter side it would have 20,000 x 640,000 pixels."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc to see resident memory")
    script = f"""
import re
from pathlib import Path
from PIL import Image
from serve.model_file import InputSpec, PrepareSpec
from serve.prepare import find_policy
def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
policies = [
    find_policy(PrepareSpec("digit", 1, {{"box": 20}}), InputSpec((28, 28, 1), "uint8", "grey")),
    find_policy(PrepareSpec("photo", 1, {{}}), InputSpec((32, 32, 3), "uint8", "rgb")),
]
strip = Image.linear_gradient("L").resize({size})
for policy in policies:
    policy(Image.linear_gradient("L"))
before = peak_kb()
for policy in policies:
    policy(strip)
print(peak_kb() - before)
"""
    grown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 4_000


def test_a_digit_on_transparent_ground_is_a_digit_on_white_paper() -> None:
    ink = draw_strokes(SEVEN).point([WHITE - level for level in range(256)])
    black = Image.new("L", ink.size, 0)
    for mode in ("LA", "RGBA"):
        layered = Image.merge(mode, [*[black] * (len(mode) - 1), ink])
        np.testing.assert_array_equal(DIGIT(reopen(layered)), DIGIT(draw_strokes(SEVEN)))


def test_what_is_transparent_in_a_photo_is_white() -> None:
    half = Image.new("RGBA", (64, 64), (200, 0, 0, 255))
    half.paste((200, 0, 0, 0), (0, 0, 32, 64))
    found = PHOTO(reopen(half))
    assert (found[:, :14] == WHITE).all()
    assert (found[:, -14:] == (200, 0, 0)).all()


def test_a_half_transparent_colour_is_mixed_with_white() -> None:
    found = PHOTO(Image.new("RGBA", (32, 32), (100, 0, 50, 128)))
    assert np.abs(found.astype(int) - (177, 127, 152)).max() <= 1


@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_white(format_name: str) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 9, 99, 199])
    image.paste(0, (0, 0, 32, 16))
    found = PHOTO(reopen(image, format_name, transparency=0))
    assert (found[:16] == WHITE).all()
    assert (found[16:] == (9, 99, 199)).all()


def test_the_transparent_level_of_16_bit_grey_is_white_and_its_neighbours_are_not() -> None:
    levels = np.full((32, 32), 20_000, np.uint16)
    levels[:16] = 20_001
    image = Image.fromarray(levels)
    image.info["transparency"] = 20_000
    found = PHOTO(image)
    assert (found[:16] == 20_001 >> 8).all()
    assert (found[16:] == WHITE).all()


@pytest.mark.parametrize(
    ("mode", "level"),
    [
        *product(["L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"], [0, 96, 255]),
        ("1", 0),
        ("1", 255),
    ],
)
def test_every_mode_gives_the_brightness_that_it_shows(mode: str, level: int) -> None:
    grey = Image.new("L", (40, 50), level)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode) if mode in {"CMYK", "YCbCr"} else grey.convert(mode)
    assert image.mode == mode
    found = PHOTO(image)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - level).max() <= 1


def test_a_16_bit_digit_is_the_digit_of_8_bits() -> None:
    image = draw_strokes(SEVEN)
    deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    np.testing.assert_array_equal(DIGIT(reopen(deep)), DIGIT(image))


@pytest.mark.parametrize("size", [(96, 32), (960, 320), (32, 96), (60, 180)])
def test_the_centre_of_a_long_photo_is_kept_and_its_ends_are_cut(size: tuple[int, int]) -> None:
    width, height = size
    image = Image.new("RGB", size, (255, 0, 0))
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste((0, 200, 0), (left, top, left + side, top + side))
    found = PHOTO(image).astype(int)
    assert (found[2:-2, 2:-2] == (0, 200, 0)).all()
    assert np.abs(found - (0, 200, 0)).max() <= 25, "the filter reaches a little past the cut, and no further"


def test_fine_detail_is_averaged_not_sampled() -> None:
    """A chequered board of single pixels, scaled to a sixteenth, is an even grey."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(PHOTO(Image.fromarray(board)).astype(int) - 127.5).max() < 8


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_a_turned_photo_comes_out_upright(orientation: int, format_name: str) -> None:
    turn = STORED[orientation]
    stored = draw_photo() if turn is None else draw_photo().transpose(turn)
    options = {"lossless": True} if format_name == "WEBP" else {}
    image = reopen(stored, format_name, exif=exif_of(orientation), **options)
    np.testing.assert_array_equal(PHOTO(image), np.asarray(draw_photo()))


def test_a_turned_jpeg_comes_out_upright() -> None:
    upright = Image.new("RGB", (60, 80), (200, 0, 0))
    upright.paste((0, 0, 200), (0, 40, 60, 80))
    image = reopen(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif_of(6))
    found = PHOTO(image).astype(int)
    assert np.abs(found[:13] - (200, 0, 0)).max() < 12
    assert np.abs(found[-13:] - (0, 0, 200)).max() < 12


def write_exif(*entries: tuple[int, int, int, int]) -> bytes:
    """Little-endian EXIF data of (tag, type, count, value) entries."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(16)


def test_a_tag_of_the_wrong_type_does_not_keep_a_photo_from_being_turned() -> None:
    """The camera's maker as a fraction: Pillow's own exif_transpose fails to write it anew."""
    exif = write_exif((ORIENTATION, 3, 1, 3), (0x010F, 5, 1, 38))
    image = reopen(draw_photo().transpose(Image.Transpose.ROTATE_180), exif=exif)
    np.testing.assert_array_equal(PHOTO(image), np.asarray(draw_photo()))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    np.testing.assert_array_equal(PHOTO(reopen(draw_photo(), exif=exif_of(orientation))), np.asarray(draw_photo()))


def test_exif_data_that_cannot_be_read_turn_nothing() -> None:
    np.testing.assert_array_equal(PHOTO(reopen(draw_photo(), exif=b"not EXIF data at all")), np.asarray(draw_photo()))


@pytest.mark.parametrize("darkest", [100, 150, 190])
def test_light_that_falls_off_over_the_paper_is_not_taken_for_ink(darkest: int) -> None:
    """A bar on paper that is lit evenly, and the same bar on paper that darkens from corner to corner."""
    slope = np.linspace(210, darkest, 100)
    paper = (slope[:, None] + slope[None, :]) / 2
    stroke = np.zeros((100, 100), bool)
    stroke[20:80, 45:55] = True
    even = DIGIT(Image.fromarray(np.where(stroke, 20, 210).astype(np.uint8)))
    uneven = DIGIT(Image.fromarray(np.where(stroke, 20, paper).astype(np.uint8)))
    assert (uneven > 64).sum() == pytest.approx((even > 64).sum(), rel=0.1)


def write_palette_png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A 4 x 4 PNG of palette indices 0, with the chunks that describe its palette."""
    header = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0))
    pixels = (b"IDAT", zlib.compress(bytes(5 * 4)))
    parts = [
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
        for name, data in (header, *chunks, pixels, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("policy", [DIGIT, PHOTO], ids=["digit", "photo"])
@pytest.mark.parametrize("chunks", [[], [(b"PLTE", bytes(6)), (b"tRNS", bytes(300))]], ids=["missing", "outgrown"])
def test_a_palette_that_does_not_fit_is_named_as_the_fault(policy: Policy, chunks: list[tuple[bytes, bytes]]) -> None:
    image = decode(write_palette_png(*chunks), 1_000)
    with pytest.raises(UnreadableImage, match="wanted a palette that fits its image"):
        policy(image)


@pytest.mark.parametrize(
    ("prepare", "target", "found"),
    [
        (PrepareSpec("poster", 1, {}), RGB_32, r"got poster/1 \(rgb\)"),
        (PrepareSpec("photo", 2, {}), RGB_32, r"got photo/2 \(rgb\)"),
        (PrepareSpec("photo", 1, {}), GREY_28, r"got photo/1 \(grey\)"),
        (PrepareSpec("digit", 1, {"box": 20}), RGB_32, r"got digit/1 \(rgb; box=20\)"),
        (PrepareSpec("digit", 1, {}), GREY_28, r"got digit/1 \(grey\)"),
        (PrepareSpec("digit", 1, {"box": 20, "blur": 2}), GREY_28, r"got digit/1 \(grey; box=20; blur=2\)"),
        (PrepareSpec("photo", 1, {"crop": 0.9}), RGB_32, r"got photo/1 \(rgb; crop=0.9\)"),
        (PrepareSpec("digit", 1, {"box": 0}), GREY_28, "box=0"),
        (PrepareSpec("digit", 1, {"box": 29}), GREY_28, "box=29"),
        (PrepareSpec("digit", 1, {"box": "20"}), GREY_28, "box='20'"),
        (PrepareSpec("digit", 1, {"box": 20.5}), GREY_28, "box=20.5"),
        (PrepareSpec("digit", 1, {"box": True}), GREY_28, "box=True"),
    ],
)
def test_an_unknown_policy_is_refused_with_the_known_ones_and_what_came(
    prepare: PrepareSpec, target: InputSpec, found: str
) -> None:
    with pytest.raises(UnknownPolicy, match=rf"wanted one of the policies digit/1 .*photo/1 .*{found}"):
        find_policy(prepare, target)
