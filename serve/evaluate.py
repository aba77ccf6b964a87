"""`python -m serve.evaluate`: start serve/client/evaluate.py."""

import sys

from serve.client.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
