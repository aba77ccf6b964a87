"""`python -m train.convert`: the door to train/commands/converting/command.py."""

import sys

from train.commands.converting.command import main

if __name__ == "__main__":
    sys.exit(main())
