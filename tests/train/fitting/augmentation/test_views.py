"""`train.fitting.augmentation.views`: images as they are, and drawn anew by a recipe's augmentation."""

import dataclasses
import json

import numpy as np

from train.fitting.augmentation.views import Redrawer, draw_views
from train.recipes.recipe import Crop, describe, read_augmentation
from train.recipes.shipped import DIGIT, OTHER_HANDS, RECIPES

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), np.uint8)


def test_without_augmentation_there_is_one_view() -> None:
    assert [np.array_equal(view, IMAGES) for view in draw_views(IMAGES, None, DIGIT, seed=0)] == [True]


def test_the_first_view_is_the_images_and_the_second_is_drawn_anew() -> None:
    for augmentation in (OTHER_HANDS, Crop(shift_pixels=3, cutout_pixels=8)):
        first, second = draw_views(IMAGES, augmentation, DIGIT, seed=0)
        assert np.array_equal(first, IMAGES)
        assert (second.shape, second.dtype) == (IMAGES.shape, np.uint8)
        assert (second != IMAGES).any(axis=(1, 2, 3)).mean() > 0.5


def test_another_seed_draws_other_views() -> None:
    views = [draw_views(IMAGES, OTHER_HANDS, DIGIT, seed=seed)[1] for seed in (0, 0, 1)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_an_augmentation_is_read_from_the_description_of_its_recipe() -> None:
    for recipe in RECIPES.values():
        assert read_augmentation(json.loads(json.dumps(describe(recipe)))) == recipe.last_augmentation
    assert read_augmentation({}) is None


ON_PAPER = dataclasses.replace(OTHER_HANDS, people=0.5, cutout_pixels=0)


def test_where_training_sees_peoples_pictures_they_are_a_third_view() -> None:
    views = draw_views(IMAGES, ON_PAPER, DIGIT, seed=0)
    assert [view.shape for view in views] == [IMAGES.shape] * 3
    assert (views[2] != IMAGES).any(axis=(1, 2, 3)).all()


def test_a_share_of_an_epochs_images_is_peoples_pictures_of_them() -> None:
    images, drawn = np.zeros((2000, 4, 4, 1), np.uint8), np.zeros((4000, 4, 4, 1), np.uint8)
    drawn[..., 0] = (np.arange(4000) % 251)[:, None, None] + 1
    places = np.arange(2000) * 2
    found = Redrawer(ON_PAPER, drawn, seed=0, epoch=0)(images, places)
    chosen = found[:, 0, 0, 0] > 0
    assert 0.45 < chosen.mean() < 0.55
    np.testing.assert_array_equal(found[chosen], drawn[places[chosen]])
    assert not images.any()
    again, next_epoch = (Redrawer(ON_PAPER, drawn, seed=0, epoch=epoch)(images, places) for epoch in (0, 1))
    np.testing.assert_array_equal(found, again)
    assert (found != next_epoch).any()


def test_a_square_of_each_image_is_black() -> None:
    cut = dataclasses.replace(OTHER_HANDS, cutout_pixels=8)
    found = Redrawer(cut, None, seed=0, epoch=0)(np.full((20, 28, 28, 1), 255, np.uint8), np.arange(20))
    assert ((found == 0).sum(axis=(1, 2, 3)) == 64).all()
