"""The address of a Ray cluster -> Ray, connected to it. It sends nothing to its makers.

Enters: an address. Leaves: the module `ray`, or ConfigError. Does not know: what is run on the cluster.
"""

import logging
import os
import socket
from typing import Any

from serve.errors import ConfigError

LONGEST_WAIT_S = 10.0
"""Seconds in which the head of a cluster must take a connection."""


def connect(address: str) -> Any:
    """Import Ray and connect this process to a cluster. Raises ConfigError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import
    try:
        import ray  # here: only who asks for a cluster needs the extra [ray]
    except ModuleNotFoundError as error:
        raise ConfigError(f'--ray: {error.name} is not installed; pip install -e ".[ray]" installs it') from error
    _check_answers(address)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"--ray: wanted a cluster at {address}, found none: {error}") from error
    return ray


def _check_answers(address: str) -> None:
    """Raise ConfigError if nothing listens at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), LONGEST_WAIT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--ray: wanted a cluster at {address}, found none: {error}") from error
