"""`python -m train.mnist`: flags enter, a model of handwritten digits leaves. All of it is in `command.py`."""

import sys

from train.commands.recipe import main

if __name__ == "__main__":
    sys.exit(main("mnist", default="mnist"))
