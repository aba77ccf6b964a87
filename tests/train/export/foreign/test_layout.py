"""`train.export.foreign.layout`: height, width and channels by the shape of the input, or a question."""

import numpy as np
import pytest

from serve.model_file.spec import InputSpec
from train.export.foreign.layout import Layout, find_layout
from train.export.foreign.source import Tensor, Unconvertible


def find(shape: tuple[int | None, ...], dtype: str = "float32", **said: object) -> Layout:
    return find_layout(Tensor("x", dtype, shape), **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "said", "found"),
    [
        ((None, 224, 200, 3), {}, (224, 200, 3, "nhwc", None, "rgb")),
        ((None, 3, 224, 200), {}, (224, 200, 3, "nchw", None, "rgb")),
        ((8, 1, 28, 28), {}, (28, 28, 1, "nchw", 8, "grey")),
        ((None, None, None, 3), {"size": (64, 48)}, (64, 48, 3, "nhwc", None, "rgb")),
        ((None, 3, None, None), {"size": (64, 48)}, (64, 48, 3, "nchw", None, "rgb")),
        ((None, None, None, None), {"size": (64, 48), "order": "nchw"}, (64, 48, 3, "nchw", None, "rgb")),
        ((None, 3, 32, 3), {"order": "nchw"}, (32, 3, 3, "nchw", None, "rgb")),
        ((None, 28, 28), {}, (28, 28, 1, "nhwc", None, "grey")),
        ((None, 784), {}, (28, 28, 1, "nhwc", None, "grey")),
        ((None, 3072), {}, (32, 32, 3, "nhwc", None, "rgb")),
        ((None, 3072), {"order": "nchw"}, (32, 32, 3, "nchw", None, "rgb")),
        ((None, 600), {"size": (20, 30)}, (20, 30, 1, "nhwc", None, "grey")),
        ((None, 32, 32, 3), {"colour": "bgr"}, (32, 32, 3, "nhwc", None, "bgr")),
        ((None, 32, 32, 3), {"colour": "grey"}, (32, 32, 3, "nhwc", None, "grey")),
    ],
)
def test_a_layout_is_found_by_the_shape_and_what_is_said(
    shape: tuple[int | None, ...], said: dict[str, object], found: tuple[object, ...]
) -> None:
    layout = find(shape, **said)
    assert (layout.height, layout.width, layout.channels, layout.order, layout.batch, layout.colour) == found


@pytest.mark.parametrize(
    ("shape", "said", "sentence"),
    [
        ((None, 3, 32, 3), {}, "wanted --layout nhwc or nchw: either may be meant"),
        ((None, None, None, None), {}, "wanted --layout nhwc or nchw, as the input .* does not say its channels"),
        ((None, None, None, 3), {}, "wanted --size HEIGHTxWIDTH, as the input .* takes any"),
        ((None, 32, 32, 4), {}, r"wanted an input of 1 .grey. or 3 channels .RGB., found x float32 \[N, 32, 32, 4\]"),
        ((None, 32, 32, 3), {"size": (28, 28)}, "--size 28x28: wanted the size of the input"),
        ((None, 28, 28, 1), {"colour": "bgr"}, "--colour bgr: wanted grey for a model of one channel"),
        ((None, 600), {}, "wanted --size HEIGHTxWIDTH, as the rows of .* may be pictures of any shape"),
        ((None, 600), {"size": (7, 9)}, "--size 7x9: wanted 1 or 3 numbers a pixel"),
        ((None, 8, 16, 16, 3), {}, "wanted an input of images, of 2 to 4 sides"),
        ((None, 4096, 4096, 3), {}, "wanted an input of at most 2048 pixels a side"),
    ],
)
def test_what_the_shape_does_not_say_is_asked_for(
    shape: tuple[int | None, ...], said: dict[str, object], sentence: str
) -> None:
    with pytest.raises(Unconvertible, match=sentence):
        find(shape, **said)


def test_a_text_is_no_image() -> None:
    with pytest.raises(Unconvertible, match="wanted an input of pixels as numbers, found x str"):
        find((None, 32, 32, 3), "str")


def test_the_file_takes_what_a_server_can_give() -> None:
    assert find((None, 3, 8, 9)).input == InputSpec((8, 9, 3), "uint8", "rgb")
    assert find((None, 8, 9, 3), colour="bgr").input == InputSpec((8, 9, 3), "uint8", "rgb")
    assert find((None, 8, 9, 3), colour="grey").input == InputSpec((8, 9, 1), "uint8", "grey")


def test_values_are_arranged_as_the_model_takes_them() -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    assert find((None, 3, 4, 5)).arrange(pixels).shape == (2, 3, 4, 5)
    assert find((None, 60), size=(4, 5)).arrange(pixels).dtype == np.float32
    np.testing.assert_array_equal(find((None, 4, 5, 3), colour="bgr").take_channels(pixels), pixels[..., ::-1])
    assert find((None, 4, 5, 3), colour="grey").take_channels(pixels[..., :1]).shape == (2, 4, 5, 3)
