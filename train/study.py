"""`python -m train.study`: the door to train/commands/study.py."""

import sys

from train.commands.study import main

if __name__ == "__main__":
    sys.exit(main())
