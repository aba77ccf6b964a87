"""serve.api.security.tokens: who calls is known by a token's digest, and no token is told to anybody."""

import contextlib
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.api.security.tokens import MAX_HEADERS, TokenFile, read_tokens
from serve.errors import ConfigError, TooManyCalls, Unauthenticated

ALICES = "alices-secret"
DIGEST = hashlib.sha256(b"bobs-secret").hexdigest()
FILE = f"""\
# who may call

alice {ALICES}
  bob\tsha256:{DIGEST.upper()}
alice alices-next-secret
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """A function that writes a file of tokens."""

    def write(text: str | bytes) -> Path:
        file = tmp_path / "tokens"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def bearer(token: str) -> list[tuple[str, str | bytes]]:
    """The metadata of a call with a token, beside others."""
    return [("user-agent", "test"), ("authorization", f"Bearer {token}"), ("x-request-id", "1")]


@pytest.mark.parametrize(
    ("token", "name"), [(ALICES, "alice"), ("alices-next-secret", "alice"), ("bobs-secret", "bob")]
)
def test_a_caller_is_known_by_a_token_or_its_digest(write: Callable[[str], Path], token: str, name: str) -> None:
    tokens = TokenFile(write(FILE))
    for _ in range(2):  # the second time from memory
        assert tokens.find(bearer(token)).name == name
    assert tokens.names == ["alice", "bob"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(write: Callable[[str], Path], scheme: str) -> None:
    assert TokenFile(write(FILE)).find([("authorization", f"{scheme} {ALICES}")]).name == "alice"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {ALICES}",
        ALICES,
        f"Bearer{ALICES}",
        f"Bearer  {ALICES}",
        f" Bearer {ALICES}",
        f"Bearer {ALICES} ",
        f"Bearer {ALICES} again",
        f"Bearer {ALICES},{ALICES}",
        f"Bearer {ALICES[:-1]}",
        f"Bearer {ALICES}x",
        f"Bearer {ALICES.upper()}",
        f"Bearer sha256:{DIGEST}",
        f"Bearer {DIGEST}",
        "Bearer пароль",
        "Bearer " + "x" * 100_000,
    ],
)
def test_another_header_is_refused_without_telling_it(write: Callable[[str], Path], header: str) -> None:
    tokens = TokenFile(write(FILE))
    for _ in range(2):
        with pytest.raises(Unauthenticated) as caught:
            tokens.find([("authorization", header)])
        assert ALICES[:8] not in str(caught.value)
        assert len(str(caught.value)) < 100


def test_a_token_is_compared_with_all_digests_whether_it_is_known_or_not(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the time tells neither which token is near nor where it stands; what is compared are digests."""
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest
    tokens = TokenFile(write(FILE))

    def note(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note)
    for token in (ALICES, "bobs-secret", "alices-next-secret", "unknown"):
        compared.clear()
        with contextlib.suppress(Unauthenticated):
            tokens.find(bearer(token))
        assert len(compared) == 3
        assert {len(side) for pair in compared for side in pair} == {32}


def test_a_call_without_a_header_or_with_two_is_refused(write: Callable[[str], Path]) -> None:
    tokens = TokenFile(write(FILE))
    with pytest.raises(Unauthenticated, match="got none"):
        tokens.find([("user-agent", "test"), ("authorization-bin", b"Bearer " + ALICES.encode())])
    with pytest.raises(Unauthenticated, match="got 2"):
        tokens.find(bearer(ALICES) + bearer(ALICES))


def test_what_is_remembered_of_callers_is_bounded(write: Callable[[str], Path]) -> None:
    """More tokens than are remembered, twice each: all of them are known."""
    count = MAX_HEADERS + 10
    tokens = TokenFile(write("\n".join(f"name{number} token{number}" for number in range(count))))
    for _ in range(2):
        names = [tokens.find(bearer(f"token{number}")).name for number in range(count)]
        assert names == [f"name{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "wanted a name and a token in {file}, found none"),
        ("# nobody\n\n", "wanted a name and a token in {file}, found none"),
        ("alice", "{file}, line 1: wanted two words, a name and a token; got 1"),
        (f"\nalice {ALICES} x", "{file}, line 2: wanted two words, a name and a token; got 3"),
        (f"{ALICES}? alice", "{file}, line 1: wanted a name of at most 64 letters, digits, '.', '_', '@' and '-'"),
        (f"al\x1bice {ALICES}", "{file}, line 1: wanted a name of at most 64 letters, digits, '.', '_', '@' and '-'"),
        (f"{'a' * 65} {ALICES}", "{file}, line 1: wanted a name of at most 64 letters, digits, '.', '_', '@' and '-'"),
        ("alice пароль", "{file}, line 1: wanted a token of printable ASCII, which is what a header can carry"),
        ("alice sha256:abc", "{file}, line 1: wanted 64 hexadecimal digits after sha256:"),
        (f"alice sha256:{DIGEST[:-1]}g", "{file}, line 1: wanted 64 hexadecimal digits after sha256:"),
        (f"alice {ALICES}\nbob {ALICES}", "{file}, line 2: wanted each token once, got one again"),
        ("bob bobs-secret\nbob sha256:" + DIGEST, "{file}, line 2: wanted each token once, got one again"),
        (b"alice \xff\xfe" + ALICES.encode(), "{file} is not UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line_and_without_its_words(
    write: Callable[[str | bytes], Path], text: str | bytes, problem: str
) -> None:
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        read_tokens(file)
    assert str(caught.value) == "--tokens: " + problem.format(file=file)


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--tokens: cannot read .*none; No such file or directory$"):
        read_tokens(tmp_path / "none")


def test_a_file_may_begin_with_a_byte_order_mark_and_end_its_lines_as_windows_does(
    write: Callable[[bytes], Path],
) -> None:
    assert list(read_tokens(write(b"\xef\xbb\xbfalice one\r\nbob two\r\n")).values()) == ["alice", "bob"]


def test_the_calls_of_a_name_are_bounded_whichever_of_its_tokens_they_show(write: Callable[[str], Path]) -> None:
    tokens = TokenFile(write(FILE), max_calls=2)
    first, second = tokens.find(bearer(ALICES)), tokens.find(bearer("alices-next-secret"))
    first.begin()
    second.begin()
    with pytest.raises(TooManyCalls, match=r"^wanted at most 2 calls of alice under way, got one more$"):
        first.begin()
    tokens.find(bearer("bobs-secret")).begin()
    second.end()
    first.begin()


def test_a_name_keeps_its_calls_when_the_file_is_read_again(write: Callable[[str], Path]) -> None:
    tokens = TokenFile(write(FILE), max_calls=1)
    caller = tokens.find(bearer(ALICES))
    caller.begin()
    write("alice another-secret")
    tokens.files.check()
    tokens.files.check()
    with pytest.raises(Unauthenticated):
        tokens.find(bearer(ALICES))
    with pytest.raises(TooManyCalls):
        tokens.find(bearer("another-secret")).begin()
    caller.end()
    tokens.find(bearer("another-secret")).begin()
