"""`python -m train.convert`: the door to train/commands/convert.py."""

import sys

from train.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
