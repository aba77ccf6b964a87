"""`python -m train.variants`: the door to train/commands/variants.py."""

import sys

from train.commands.variants import main

if __name__ == "__main__":
    sys.exit(main())
