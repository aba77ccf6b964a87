"""`python -m train.cifar`: flags enter, a model of CIFAR-10's ten objects leaves. All of it is in `command.py`."""

import sys

from train.commands.recipe import main

if __name__ == "__main__":
    sys.exit(main("cifar", default="cifar10"))
