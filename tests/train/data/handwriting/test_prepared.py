"""`train.data.handwriting.prepared`: strokes come back from people's pictures of them as a server prepares these."""

import numpy as np
import pytest

from serve.errors import UnknownPolicy
from serve.model_file.spec import PrepareSpec
from train.data.handwriting.prepared import draw_as_people, draw_some

DIGIT = PrepareSpec("digit", 2, {"box": 20})


def draw_bars(count: int) -> np.ndarray:
    """Upright strokes uint8 [N, 28, 28, 1], each a little farther to the right."""
    strokes = np.zeros((count, 28, 28, 1), np.uint8)
    for number, each in enumerate(strokes):
        each[5:23, 10 + number % 6 : 13 + number % 6] = 255
    return strokes


def test_each_image_is_one_picture_of_it_as_the_policy_gives_it() -> None:
    strokes = draw_bars(40)
    drawn = draw_some(strokes, DIGIT, (0, 0))
    assert (drawn.shape, drawn.dtype) == (strokes.shape, np.uint8)
    sizes = np.stack([np.ptp(np.argwhere(each[..., 0] > 128), axis=0) for each in drawn])
    heights, widths = np.median(sizes, axis=0)
    assert heights >= 16
    assert widths <= 6


def test_pictures_depend_on_the_seed_and_not_on_the_number_of_processes() -> None:
    strokes = draw_bars(6)
    first = draw_as_people(strokes, DIGIT, seed=3)
    np.testing.assert_array_equal(first, draw_some(strokes, DIGIT, (3, 0)))
    assert (draw_some(strokes, DIGIT, (4, 0)) != first).any()


def test_a_policy_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownPolicy, match="digit/9"):
        draw_some(draw_bars(1), PrepareSpec("digit", 9, {}), (0, 0))
