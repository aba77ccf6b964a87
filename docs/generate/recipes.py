"""The recipes whose models ship, from `train.recipes.shipped`.

Enters: nothing. Leaves: a table with a row for each recipe. Does not know: how a recipe is trained.
"""

from docs.generate.markdown import code, make_table
from train.recipes.net import spell
from train.recipes.recipe import Recipe
from train.recipes.shipped import QUICK, RECIPES


def write_recipes() -> str:
    """A row for each recipe, in the order of the code."""
    head = ("recipe", "test accuracy", "target", "epochs", "batch", "optimizer", "held-out images", "net")
    return make_table(head, map(write_recipe, (RECIPES | QUICK).values()))


def _count(recipe: Recipe) -> str:
    """The epochs, and those of the tuning."""
    return f"{recipe.epochs} + {recipe.tuning.epochs}" if recipe.tuning else str(recipe.epochs)


def write_recipe(recipe: Recipe) -> tuple[str, ...]:
    """The cells of one recipe."""
    figures = (f"{recipe.measured_accuracy:.4f}", f"{recipe.target_accuracy:.4f}", _count(recipe), recipe.batch_size)
    optimizer = type(recipe.optimizer).__name__
    return code(recipe.name), *map(str, figures), optimizer, f"{recipe.validation_count:,}", spell(recipe.net)
