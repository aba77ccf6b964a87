"""`python -m train.speed`: the door to train/commands/speed.py."""

import sys

from train.commands.speed import main

if __name__ == "__main__":
    sys.exit(main())
