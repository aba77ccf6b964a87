"""`python -m train.mnist`: the door to train/commands/recipe.py, for MNIST."""

import sys

from train.commands.recipe import main

if __name__ == "__main__":
    sys.exit(main("mnist", default="mnist"))
