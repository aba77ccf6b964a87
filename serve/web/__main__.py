"""`python -m serve.web`: a page and an HTTP API in front of a gRPC server.

Enters: the command line. Leaves: an exit code: 0 after a clean stop, 2 for a bad setting, 4 for a taken port.
Does not know: what is answered.
"""

import logging
import sys

from serve.errors import ConfigError
from serve.telemetry.logs import start_logging, wrap_standard_streams
from serve.web.flags import read_options
from serve.web.listening.server import run


def main() -> int:
    """Serve until told to stop."""
    try:
        options = read_options()
        if options.log_format == "json":
            wrap_standard_streams()
        start_logging(options.log_level, options.log_format)
        logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it logs each malformed request as a warning
        run(options)
    except ConfigError as error:
        print(f"serve.web: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
