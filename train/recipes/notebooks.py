"""The experiments of the notebooks that the project grew out of, as recipes. Nothing here computes.

Enters: nothing. Leaves: `NOTEBOOKS`, and `ALL`, which also has the recipes of `shipped.py`. Does not know: Keras.
Net, epochs, batch size and augmentation are those that the notebooks state. Schedule, smoothing and the choice of the
epoch are those of the shipped recipes. The target is the notebook's own figure, or 0.0 if it had none.
The rows whose model ships are in `shipped.py`: mnist-mlp, mnist-cnn, cifar10-mlp and cifar10-cnn. The results are in
`docs/training/notebooks.md`.
"""

import dataclasses

from train.recipes.net import Conv, Dense, Drop, Flatten, GlobalAverage, Net, Part, Pool
from train.recipes.recipe import Recipe
from train.recipes.shipped import CANDIDATES, QUICK, RECIPES

_MNIST, _CIFAR = RECIPES["mnist-mlp"], RECIPES["cifar10-cnn"]
_CNN, _MLP = RECIPES["cifar10-cnn"].net, RECIPES["cifar10-mlp"].net
_POOLED = (Conv(32), Pool(), Conv(64), Pool(), Drop(0.5))


def _insert(net: Net, before: Part, *added: Part) -> Net:
    place = net.index(before)
    return (*net[:place], *added, *net[place:])


def _unpadded(rate: float, last_rate: float) -> Net:
    """Two blocks whose second convolution has no padding, with a dropout rate for the blocks and one for the end."""
    return (
        *(Conv(32), Conv(32, padding="valid"), Pool(), Drop(rate)),
        *(Conv(64), Conv(64, padding="valid"), Pool(), Drop(rate)),
        *(Flatten(), Dense(512), Drop(last_rate)),
    )


_UNPOOLED = (
    *(Conv(32, padding="valid"), Conv(64, padding="valid"), Drop(0.25)),
    *(Flatten(), Dense(128), Drop(0.5)),
)
_WIDE_TO_NARROW = (
    *(Conv(32, 7), Pool(), Conv(64, 5), Pool(), Conv(128, 3), Pool(), Drop(0.25)),
    *(Flatten(), Dense(128), Drop(0.5)),
)


def _repeat(base: Recipe, name: str, target_accuracy: float, epochs: int, net: Net, *, measured: float) -> Recipe:
    """A row that shares its other settings with `base`."""
    return dataclasses.replace(
        base, name=name, target_accuracy=target_accuracy, epochs=epochs, net=net, measured_accuracy=measured
    )


_ROWS = (
    _repeat(_MNIST, "mnist-cnn-unpooled", 0.989, 12, _UNPOOLED, measured=0.9914),
    _repeat(_MNIST, "mnist-cnn-mean", 0.0, 10, (*_POOLED, GlobalAverage()), measured=0.9506),
    _repeat(_MNIST, "mnist-cnn-flat", 0.0, 10, (*_POOLED, Flatten()), measured=0.9913),
    _repeat(_CIFAR, "cifar10-mlp-5", 0.3927, 5, _MLP, measured=0.4130),
    _repeat(_CIFAR, "cifar10-cnn-753", 0.0, 10, _WIDE_TO_NARROW, measured=0.6270),
    _repeat(_CIFAR, "cifar10-cnn-unpadded", 0.573, 5, _unpadded(0.25, 0.5), measured=0.6066),
    _repeat(_CIFAR, "cifar10-cnn-unpadded-drop15", 0.5721, 5, _unpadded(0.15, 0.15), measured=0.6510),
    _repeat(_CIFAR, "cifar10-cnn-5", 0.606, 5, _CNN, measured=0.6164),
    _repeat(_CIFAR, "cifar10-cnn-conv200", 0.5457, 5, _insert(_CNN, Flatten(), Conv(200), Pool()), measured=0.5911),
    _repeat(_CIFAR, "cifar10-cnn-10", 0.6575, 10, _CNN, measured=0.6952),
    _repeat(_CIFAR, "cifar10-cnn-dense256", 0.6527, 10, _insert(_CNN, Drop(0.5), Dense(256)), measured=0.7020),
)
NOTEBOOKS = {recipe.name: recipe for recipe in _ROWS}
ALL = RECIPES | QUICK | CANDIDATES | NOTEBOOKS
