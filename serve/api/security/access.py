"""All files that say who may call: those of TLS and that of the tokens.

Enters: paths. Leaves: what is in force, and a warning before the certificate expires.
Does not know: gRPC, flags, what is called.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from serve.api.security.certificate import Pair, read_pair
from serve.api.security.files import CHECK_S, WatchedFiles
from serve.api.security.tokens import TokenFile

logger = logging.getLogger(__name__)

WARNING_S = 30 * 24 * 3600
"""Seconds before a certificate expires at which the log warns."""


class Access:
    """What is in force of each file, as far as it is set. Workers and their supervisor have one each."""

    def __init__(
        self,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_client_ca: Path | None,
        tokens: Path | None,
        max_token_calls: int = 0,
        *,
        is_quiet: bool = False,
    ) -> None:
        """Raises ConfigError. `is_quiet` logs nothing: of a supervisor and its workers, one does."""
        self._certificate = tls_cert
        self.tokens = TokenFile(tokens, max_token_calls, is_quiet=is_quiet) if tokens else None
        self.pair: WatchedFiles[Pair] | None = None
        if tls_cert and tls_key:
            paths = [path for path in (tls_cert, tls_key, tls_client_ca) if path]
            self.pair = WatchedFiles(
                paths,
                lambda: read_pair(tls_cert, tls_key, tls_client_ca),
                lambda pair: f"the certificate {tls_cert}, up to {_to_text(pair.expires_s)}",
                is_quiet=is_quiet,
            )

    async def watch(self) -> None:
        """Read files again when they change, until it is cancelled."""
        watched = [files.watch() for files in (self.pair, self.tokens and self.tokens.files) if files]
        await asyncio.gather(*watched)

    async def warn_of_expiry(self) -> None:
        """Warn once thirty days before a certificate expires and once when it has, until it is cancelled."""
        warned = None
        while self.pair:
            expires_s = self.pair.content.expires_s
            warning = _find_warning(expires_s)
            if warning and (expires_s, warning) != warned:
                warned = (expires_s, warning)
                logger.warning("the certificate %s %s on %s", self._certificate, warning, _to_text(expires_s))
            await asyncio.sleep(CHECK_S)


def _to_text(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()


def _find_warning(expires_s: float) -> str:
    """What is to be said of a certificate now, if anything."""
    left_s = expires_s - time.time()
    if left_s > WARNING_S:
        return ""
    return "expires" if left_s > 0 else "expired"
