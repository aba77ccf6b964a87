"""Certificates of the door, which are read again when they change.

Enters: paths of PEM files. Leaves: the context of a listening socket, or ConfigError. Does not know: connections.
"""

import asyncio
import logging
import ssl
from pathlib import Path

from serve.errors import ConfigError

logger = logging.getLogger(__name__)

CHECK_S = 1.0
"""Seconds between two looks at the files. A change is in force after two of them."""


class Certificates:
    """A certificate with its key, and the authorities of callers. The last good ones stay in force."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        """Raises ConfigError."""
        self._files = (cert, key, client_ca)
        self._seen = self._in_force = self._stamp()
        self._problem = ""
        self._current = self._read()
        self.context = self._read()
        """What a socket listens with. Each connection gets what is in force when it begins."""
        self.context.sni_callback = self._take_current

    async def watch(self) -> None:
        """Read the files again when they change, until it is cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            await asyncio.to_thread(self.check)

    def check(self) -> None:
        """Read the files again if they have changed and are at rest."""
        stamps = self._stamp()
        is_at_rest, self._seen = stamps == self._seen, stamps
        if not is_at_rest or (stamps == self._in_force and not self._problem):
            return
        try:
            self._current = self._read()
        except ConfigError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                logger.error("%s; what was read before stays in force", error)
            return
        self._in_force, self._problem = stamps, ""
        logger.info("in force: the certificate %s", self._files[0])

    def _take_current(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._current

    def _read(self) -> ssl.SSLContext:
        cert, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(cert, key, password="")  # without one, OpenSSL would ask the terminal
            if client_ca:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # SSLError is one
            reason = getattr(error, "reason", None) or error.strerror
            raise ConfigError(f"--tls-cert, --tls-key, --tls-client-ca: wanted PEM files that fit; {reason}") from error
        return context

    def _stamp(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_stamp(path) for path in self._files if path)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does; nothing at all if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
