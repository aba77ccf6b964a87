"""`python -m train.familiarity`: the door to train/commands/familiarity.py."""

import sys

from train.commands.familiarity import main

if __name__ == "__main__":
    sys.exit(main())
