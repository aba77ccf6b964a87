"""`python -m train.folder`: the door to train/commands/folder.py."""

import sys

from train.commands.folder import main

if __name__ == "__main__":
    sys.exit(main())
