"""The tokens that callers show, from a file: a name and a token, or a name and its SHA-256, on each line.

Enters: a path, and the metadata of calls. Leaves: who calls, by name, or Unauthenticated.
Does not know: gRPC, and what is called. A token is in no log, no error and no repr.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from serve.api.security.files import WatchedFiles
from serve.errors import ConfigError, TooManyCalls, Unauthenticated

DIGEST_MARK = "sha256:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_TOKEN = re.compile(r"[!-~]+")
"""What a header can carry without quotes: printable ASCII without spaces."""
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
MAX_HEADERS = 1024
"""Headers of known callers that are remembered. One token has several, for `bearer` may be written in many ways."""


class Caller:
    """One who may call, by the name beside the token. Used on the event loop alone."""

    __slots__ = ("_max_calls", "_running", "name")

    def __init__(self, name: str, max_calls: int = 0) -> None:
        """`max_calls` bounds the calls under way; 0 sets no bound."""
        self.name = name
        self._max_calls = max_calls
        self._running = 0

    def begin(self) -> None:
        """Count a call that begins. Raises TooManyCalls if as many are under way as may be."""
        if self._running >= self._max_calls > 0:
            raise TooManyCalls(f"wanted at most {self._max_calls} calls of {self.name} under way, got one more")
        self._running += 1

    def end(self) -> None:
        """Count a call that ended."""
        self._running -= 1


ANYBODY = Caller("")
"""The caller of a server without tokens, and of a service that asks for none."""


class TokenSet:
    """The tokens of one state of the file, as digests."""

    def __init__(self, callers: Mapping[bytes, Caller]) -> None:
        """The callers by the SHA-256 of their tokens."""
        self._callers = callers
        self._known: dict[str, Caller] = {}

    def find(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Whose call it is. Raises Unauthenticated."""
        headers = [value for key, value in metadata if key == "authorization"]
        if len(headers) != 1:
            count = "none" if not headers else str(len(headers))
            raise Unauthenticated(f"wanted one authorization in the metadata, as 'Bearer TOKEN'; got {count}")
        header = str(headers[0])
        return self._known.get(header) or self._identify(header)

    def _identify(self, header: str) -> Caller:
        """Compare in a time that depends on the number of tokens alone, and remember who it is."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
            raise Unauthenticated("wanted an authorization of the form 'Bearer TOKEN', got another form")
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise Unauthenticated("wanted a token that this server knows, got another")
        if len(self._known) >= MAX_HEADERS:
            self._known.clear()
        self._known[header] = found
        return found


class TokenFile:
    """The tokens in force. A name keeps its calls under way when the file is read again."""

    def __init__(self, path: Path, max_calls: int = 0, *, is_quiet: bool = False) -> None:
        """Raises ConfigError with the line that is wrong. `max_calls` bounds the calls under way of each name."""
        self._path = path
        self._max_calls = max_calls
        self._callers: dict[str, Caller] = {}
        self.files = WatchedFiles([path], self._read, self._describe, is_quiet=is_quiet)

    @property
    def names(self) -> list[str]:
        """Whose tokens are in force."""
        return sorted(self._callers)

    def find(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Whose call it is. Raises Unauthenticated."""
        return self.files.content.find(metadata)

    def _describe(self, _: TokenSet) -> str:
        return f"the tokens of {', '.join(self.names)}"

    def _read(self) -> TokenSet:
        names = read_tokens(self._path)
        self._callers = {name: self._callers.get(name) or Caller(name, self._max_calls) for name in names.values()}
        return TokenSet({digest: self._callers[name] for digest, name in names.items()})


def read_tokens(path: Path) -> dict[bytes, str]:
    """The names in a file of tokens by the SHA-256 of each token. Raises ConfigError, which tells no token."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"--tokens: cannot read {path}; {error.strerror or error}") from error
    except ValueError:  # and not its message, which has bytes of the file
        raise ConfigError(f"--tokens: {path} is not UTF-8") from None
    names: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        digest, name = _read_line(line, f"--tokens: {path}, line {number}")
        if digest in names:
            raise ConfigError(f"--tokens: {path}, line {number}: wanted each token once, got one again")
        names[digest] = name
    if not names:
        raise ConfigError(f"--tokens: wanted a name and a token in {path}, found none")
    return names


def _read_line(line: str, place: str) -> tuple[bytes, str]:
    words = line.split()
    if len(words) != 2:
        raise ConfigError(f"{place}: wanted two words, a name and a token; got {len(words)}")
    name, token = words
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: wanted a name of at most 64 letters, digits, '.', '_', '@' and '-'")
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{place}: wanted a token of printable ASCII, which is what a header can carry")
    if not token.startswith(DIGEST_MARK):
        return hashlib.sha256(token.encode()).digest(), name
    hexadecimal = token.removeprefix(DIGEST_MARK)
    if not _DIGEST.fullmatch(hexadecimal):
        raise ConfigError(f"{place}: wanted 64 hexadecimal digits after {DIGEST_MARK}")
    return bytes.fromhex(hexadecimal), name
