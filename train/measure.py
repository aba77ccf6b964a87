"""`python -m train.measure`: the door to train/commands/measuring/command.py."""

import sys

from train.commands.measuring.command import main

if __name__ == "__main__":
    sys.exit(main())
