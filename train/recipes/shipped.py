"""The recipes of the models that ship. Nothing here computes.

Enters: nothing. Leaves: `RECIPES`, and `QUICK` and `CANDIDATES`, whose models do not ship. Does not know: Keras, or
what a setting does (`recipe.py` and `net.py` say that).
Net, epochs, batch size and augmentation of `*-mlp` and `*-cnn` are those of the notebooks that the project grew out of.
Their schedule and loss were chosen by validation accuracy.
"""

import dataclasses

from serve.model_file.spec import PrepareSpec
from train.recipes.net import Conv, Dense, Drop, Flatten, GlobalMax, Net, NormConv, Pool, Residual, Whitening
from train.recipes.recipe import Adam, Augmentation, Crop, Degradation, Distillation, Muon, Recipe, Tuning

DIGIT = PrepareSpec("digit", 1, {"box": 20})
DIGIT_ON_PAPER = PrepareSpec("digit", 2, {"box": 20})
PHOTO = PrepareSpec("photo", 1, {})
FRAMED_PHOTO = PrepareSpec("photo", 2, {"margins": "frame"})
NOTEBOOK_AUGMENTATION = Augmentation(rotation_degrees=10, shift=0.1, zoom=0.2, horizontal_flip=True)
OTHER_HANDS = Augmentation(
    rotation_degrees=12, shift=0.08, zoom=0.12, horizontal_flip=False, shear=0.15, stroke=0.4, blur=0.4
)

_ON_PAPER = dataclasses.replace(OTHER_HANDS, people=0.3)
_DEGRADED = Crop(shift_pixels=4, cutout_pixels=8, degradation=Degradation())
_HALF_DEGRADED = Crop(shift_pixels=4, cutout_pixels=8, degradation=Degradation(share=0.5))

_ALL = (
    Recipe(
        name="mnist",
        net=(
            NormConv(32, pooled=True),
            *(NormConv(64), NormConv(64, pooled=True)),
            *(NormConv(128), NormConv(128)),
            GlobalMax(),
        ),
        dataset="mnist",
        epochs=24,
        batch_size=250,
        augmentation=OTHER_HANDS,
        peak_learning_rate=0.2,
        warmup_epochs=0,
        optimizer=Muon(adam_share=0.02),
        label_smoothing=0.1,
        validation_count=2000,
        gives_familiarity=True,
        halves_weights=True,
        keeps_last=True,
        tuning=Tuning(epochs=4, peak_learning_rate=0.01, augmentation=_ON_PAPER, strangers=6_000, share=0.7),
        prepare=DIGIT_ON_PAPER,
        target_accuracy=0.9955,
        measured_accuracy=0.9969,
    ),
    Recipe(
        name="cifar10",
        net=(
            Whitening(),
            *(NormConv(128, pooled=True), NormConv(128)),
            *(NormConv(384, pooled=True), Residual(384)),
            *(NormConv(384, pooled=True), NormConv(384)),
            GlobalMax(),
        ),
        dataset="cifar10",
        epochs=35,
        batch_size=500,
        augmentation=Crop(shift_pixels=4, cutout_pixels=12),
        peak_learning_rate=0.1,
        warmup_epochs=0,
        optimizer=Muon(adam_share=0.04),
        label_smoothing=0.2,
        validation_count=2000,
        keeps_last=True,
        tuning=Tuning(epochs=3, peak_learning_rate=0.012, augmentation=_DEGRADED, share=0.65),
        mirrors=True,
        gives_familiarity=True,
        halves_weights=True,
        prepare=FRAMED_PHOTO,
        target_accuracy=0.941,
        measured_accuracy=0.9469,
    ),
    Recipe(
        name="mnist-mlp",
        net=(Flatten(), Dense(512)),
        dataset="mnist",
        epochs=10,
        batch_size=128,
        augmentation=None,
        peak_learning_rate=2e-3,
        label_smoothing=0.1,
        halves_weights=True,
        prepare=DIGIT,
        target_accuracy=0.980,
        measured_accuracy=0.9849,
    ),
    Recipe(
        name="mnist-cnn",
        net=(Conv(32, padding="valid"), Pool(), Drop(0.25), Flatten(), Dense(128), Drop(0.5)),
        dataset="mnist",
        epochs=10,
        batch_size=128,
        augmentation=None,
        peak_learning_rate=4e-3,
        optimizer=Adam(beta_2=0.99),
        label_smoothing=0.1,
        halves_weights=True,
        prepare=DIGIT,
        target_accuracy=0.990,
        measured_accuracy=0.99,
    ),
    Recipe(
        name="cifar10-mlp",
        net=(Flatten(), Dense(128), Dense(64), Dense(32)),
        dataset="cifar10",
        epochs=20,
        batch_size=1000,
        augmentation=NOTEBOOK_AUGMENTATION,
        peak_learning_rate=3e-3,
        halves_weights=True,
        prepare=PHOTO,
        target_accuracy=0.475,
        measured_accuracy=0.4833,
    ),
    Recipe(
        name="cifar10-cnn",
        net=(
            *(Conv(16), Conv(32), Pool(), Drop(0.25)),
            *(Conv(64), Conv(128), Pool(), Drop(0.25)),
            *(Flatten(), Dense(512), Drop(0.5)),
        ),
        dataset="cifar10",
        epochs=20,
        batch_size=1000,
        augmentation=NOTEBOOK_AUGMENTATION,
        peak_learning_rate=3e-3,
        halves_weights=True,
        prepare=PHOTO,
        target_accuracy=0.7315,
        measured_accuracy=0.7536,
    ),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}

_HALF_HOUR = dataclasses.replace(  # the duration on two cores with bfloat16 instructions
    RECIPES["cifar10"],
    name="cifar10-half-hour",
    net=(
        Whitening(),
        *(NormConv(128, pooled=True), NormConv(128)),
        *(NormConv(384, pooled=True), NormConv(384)),
        *(NormConv(384, pooled=True), NormConv(384)),
        GlobalMax(),
    ),
    epochs=12,
    tuning=None,
    prepare=PHOTO,
    augmentation=Crop(shift_pixels=2),  # larger shifts need more epochs
    target_accuracy=0.94,
    measured_accuracy=0.9412,
)


def _narrow(first: int, rest: int) -> Net:
    """The net of `cifar10` with other widths."""
    return (
        Whitening(),
        *(NormConv(first, pooled=True), NormConv(first)),
        *(NormConv(rest, pooled=True), Residual(rest)),
        *(NormConv(rest, pooled=True), NormConv(rest)),
        GlobalMax(),
    )


_FIRST = dataclasses.replace(  # the shipped file joins it with `cifar10`, which was its teacher
    RECIPES["cifar10"],
    name="cifar10-first",
    mirrors=False,
    net=_narrow(48, 160),
    epochs=36,
    augmentation=Crop(shift_pixels=3, cutout_pixels=6, degradation=Degradation(share=0.5)),
    label_smoothing=0.0,
    distillation=Distillation(share=0.7, views=True),
    tuning=Tuning(epochs=6, peak_learning_rate=0.03, augmentation=_DEGRADED, strangers=4_500, share=0.7),
    averaging=0.99,
    target_accuracy=0.925,
    measured_accuracy=0.9274,
)
QUICK = {recipe.name: recipe for recipe in (_HALF_HOUR, _FIRST)}

_ROBUST = dataclasses.replace(
    RECIPES["cifar10"],
    name="cifar10-robust",
    net=_narrow(64, 256),
    epochs=60,
    augmentation=_DEGRADED,
    tuning=None,
    mirrors=False,
    second_view_share=0.2,
    averaging=0.995,
    target_accuracy=0.945,
    measured_accuracy=0.0,
)
_CANDIDATES = (
    _ROBUST,
    dataclasses.replace(_ROBUST, name="cifar10-robust-80", net=_narrow(80, 256), second_view_share=0.0),
    dataclasses.replace(
        RECIPES["cifar10"],
        name="cifar10-large",
        label_smoothing=0.0,  # the teacher's answers are soft enough
        distillation=Distillation(share=0.5, views=True),
        tuning=Tuning(epochs=22, peak_learning_rate=0.05, augmentation=_HALF_DEGRADED, strangers=2_000),
        target_accuracy=0.95,
        measured_accuracy=0.0,
    ),
)
CANDIDATES = {recipe.name: recipe for recipe in _CANDIDATES}
"""Recipes that were not trained yet. One that is better takes the name of the model that it replaces."""
