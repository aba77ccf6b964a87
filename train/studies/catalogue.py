"""The studies by name, as data: the question of each, its values, and how a value changes a recipe.

Enters: nothing. Leaves: `STUDIES` and `BASES`. Does not know: Keras, how a trial is trained, results.
A study changes one thing. Learning rate, batch size and all other settings stay those of the base recipe. They were
chosen for the base net, so a very different value might do better with settings of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from train.recipes.net import Conv, Dense, Drop, Flatten, Net, Part
from train.recipes.recipe import Recipe
from train.recipes.shipped import NOTEBOOK_AUGMENTATION, RECIPES

Value = float | str


@dataclass(frozen=True)
class Trial:
    """What a value of a study trains."""

    recipe: Recipe
    pretraining_epochs: int = 0
    """Epochs of contrastive pretraining before the recipe's own epochs."""


@dataclass(frozen=True)
class Study:
    """A question, the values to compare, and how a value becomes a trial."""

    name: str
    question: str
    axis: str
    """What the values are, as the label of the plot's axis."""
    values: tuple[Value, ...]
    """Values to compare by default."""
    read: Callable[[str], Value]
    """Reads a value from text. Raises ValueError with what was wanted."""
    vary: Callable[[Recipe, Value], Trial]
    """Makes the trial of a value. Raises ValueError if the recipe does not allow it."""


def spell_value(value: Value) -> str:
    """Write a value as it is typed."""
    return value if isinstance(value, str) else f"{value:g}"


def read_number(wanted: str, is_good: Callable[[float], bool]) -> Callable[[str], Value]:
    """Make a reader that accepts such numbers."""

    def read(text: str) -> Value:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not is_good(number):
            raise ValueError(f"wanted {wanted}; got {text!r}")
        return number

    return read


def read_choice(*choices: str) -> Callable[[str], Value]:
    """Make a reader that accepts one of these words."""

    def read(text: str) -> Value:
        if text not in choices:
            raise ValueError(f"wanted {' or '.join(choices)}; got {text!r}")
        return text

    return read


def change_net(change: Callable[[Net, Value], Net]) -> Callable[[Recipe, Value], Trial]:
    """Make a study's `vary` that changes only the net."""
    return lambda recipe, value: Trial(replace(recipe, net=change(recipe.net, value)))


def widen(net: Net, factor: Value) -> Net:
    """Multiply the filters of every convolution and the width of every dense layer by a factor."""

    def scale(count: int) -> int:
        return max(1, round(count * float(factor)))

    def widen_part(part: Part) -> Part:
        match part:
            case Conv(filters):
                return replace(part, filters=scale(filters))
            case Dense(width):
                return replace(part, width=scale(width))
        return part

    return tuple(map(widen_part, net))


def deepen(net: Net, times: Value) -> Net:
    """Put `times` convolutions in place of each one. The added ones are padded, so that later sizes do not change."""
    more = int(times) - 1
    rows = ((part, *(replace(part, padding="same"),) * more) if isinstance(part, Conv) else (part,) for part in net)
    return tuple(part for row in rows for part in row)


def drop(net: Net, rate: Value) -> Net:
    """Set the same rate in every dropout."""
    return tuple(replace(part, rate=float(rate)) if isinstance(part, Drop) else part for part in net)


def change_kernel(net: Net, side: Value) -> Net:
    """Set the same kernel size in every convolution."""
    return tuple(replace(part, kernel=int(side)) if isinstance(part, Conv) else part for part in net)


def change_epochs(recipe: Recipe, epochs: Value) -> Trial:
    """Set the epochs. The learning rate schedule stretches with them and ends at 0 in every trial."""
    return Trial(replace(recipe, epochs=int(epochs)))


def switch_augmentation(recipe: Recipe, value: Value) -> Trial:
    """Train with the notebooks' augmentation, or on the images as they are. Digits are never mirrored."""
    augmentation = replace(NOTEBOOK_AUGMENTATION, horizontal_flip=recipe.dataset != "mnist")
    return Trial(replace(recipe, augmentation=augmentation if value == "on" else None))


def replace_convolutions(recipe: Recipe, value: Value) -> Trial:
    """The base net, or a dense net with about as many parameters and the same dropout before the logits."""
    width = DENSE_WIDTHS[recipe.dataset]
    dense = (Flatten(), Dense(width), Dense(width), recipe.net[-1])
    return Trial(replace(recipe, net=dense) if value == "dense" else recipe)


def pretrain(recipe: Recipe, value: Value) -> Trial:
    """Use half of the epochs for pretraining, so that both sides have the same number of epochs."""
    if value == "none":
        return Trial(recipe)
    if recipe.epochs < 2:
        raise ValueError("wanted at least 2 epochs, one of them for pretraining; got 1")
    half = recipe.epochs // 2
    return Trial(replace(recipe, epochs=recipe.epochs - half), pretraining_epochs=half)


def _take_base(name: str) -> Recipe:
    """A recipe without its figures: if one changed, an interrupted run could not be resumed.

    It keeps the weights of the last epoch, because the held-out images compare runs and must choose nothing.
    """
    return replace(RECIPES[name], measured_accuracy=0.0, target_accuracy=0.0, keeps_last=True)


BASES = {"cifar10": _take_base("cifar10-cnn"), "mnist": _take_base("mnist-cnn")}
DENSE_WIDTHS = {"cifar10": 1035, "mnist": 525}

_ALL = (
    Study(
        name="width",
        question="Is a wider net more accurate?",
        axis="width, as a multiple of the base net's",
        values=(0.25, 0.5, 1.0, 2.0),
        read=read_number("a factor above 0, at most 16", lambda number: 0 < number <= 16),
        vary=change_net(widen),
    ),
    Study(
        name="depth",
        question="Is a deeper net more accurate?",
        axis="convolutions in a row, in place of each one",
        values=(1.0, 2.0, 3.0),
        read=read_number("a whole number from 1 to 8", lambda number: number in range(1, 9)),
        vary=change_net(deepen),
    ),
    Study(
        name="dropout",
        question="How much dropout is best?",
        axis="dropout rate",
        values=(0.0, 0.1, 0.25, 0.4, 0.6),
        read=read_number("a share from 0 to below 1", lambda number: 0 <= number < 1),
        vary=change_net(drop),
    ),
    Study(
        name="epochs",
        question="How long is training worth its while?",
        axis="epochs",
        values=(5.0, 10.0, 20.0, 40.0),
        read=read_number("a whole number from 1 to 1000", lambda number: number in range(1, 1001)),
        vary=change_epochs,
    ),
    Study(
        name="kernel",
        question="Which kernel size is best?",
        axis="kernel's side in pixels",
        values=(1.0, 3.0, 5.0, 7.0),
        # An even kernel has no centre and would shift the image.
        read=read_number("an odd whole number from 1 to 11", lambda number: number in range(1, 12, 2)),
        vary=change_net(change_kernel),
    ),
    Study(
        name="augmentation",
        question="Do randomly moved training images make a net more accurate?",
        axis="augmentation",
        values=("off", "on"),
        read=read_choice("off", "on"),
        vary=switch_augmentation,
    ),
    Study(
        name="dense",
        question="Are convolutions better than as many parameters in dense layers?",
        axis="layers",
        values=("dense", "convolution"),
        read=read_choice("dense", "convolution"),
        vary=replace_convolutions,
    ),
    Study(
        name="metric",
        question="Does pretraining by metric learning beat the same epochs without it?",
        axis="pretraining for half of the epochs",
        values=("none", "metric"),
        read=read_choice("none", "metric"),
        vary=pretrain,
    ),
)
STUDIES = {study.name: study for study in _ALL}
