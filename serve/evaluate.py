"""`python -m serve.evaluate`: the door to serve/client/evaluate.py."""

import sys

from serve.client.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
