"""`python -m train.cifar`: the door to train/commands/recipe.py, for CIFAR-10."""

import sys

from train.commands.recipe import main

if __name__ == "__main__":
    sys.exit(main("cifar", default="cifar10"))
