"""`python -m serve.health`: start serve/client/health.py."""

import sys

from serve.client.health import main

if __name__ == "__main__":
    sys.exit(main())
