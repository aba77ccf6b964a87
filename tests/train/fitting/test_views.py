"""`train.fitting.views`: images as they are, and drawn anew by a recipe's augmentation."""

import numpy as np

from train.fitting.views import draw_views
from train.recipes.recipe import Crop, describe, read_augmentation
from train.recipes.shipped import OTHER_HANDS, RECIPES

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), np.uint8)


def test_without_augmentation_there_is_one_view() -> None:
    assert [np.array_equal(view, IMAGES) for view in draw_views(IMAGES, None, seed=0)] == [True]


def test_the_first_view_is_the_images_and_the_second_is_drawn_anew() -> None:
    for augmentation in (OTHER_HANDS, Crop(shift_pixels=3, cutout_pixels=8)):
        first, second = draw_views(IMAGES, augmentation, seed=0)
        assert np.array_equal(first, IMAGES)
        assert (second.shape, second.dtype) == (IMAGES.shape, np.uint8)
        assert (second != IMAGES).any(axis=(1, 2, 3)).mean() > 0.5


def test_another_seed_draws_other_views() -> None:
    views = [draw_views(IMAGES, OTHER_HANDS, seed=seed)[1] for seed in (0, 0, 1)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_an_augmentation_is_read_from_the_description_of_its_recipe() -> None:
    for recipe in RECIPES.values():
        assert read_augmentation(describe(recipe)) == recipe.augmentation
    assert read_augmentation({}) is None
