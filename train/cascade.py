"""`python -m train.cascade`: the door to train/commands/joining/command.py."""

import sys

from train.commands.joining.command import main

if __name__ == "__main__":
    sys.exit(main())
