"""serve.api.security.access: the log warns once before the certificate expires, and once when it has."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from serve.api.security import access
from serve.api.security.access import Access
from tests.certificates import DAY, Authority

AUTHORITY = Authority.make("authority")


def watch_for(folder: Path, lifetimes: list[timedelta]) -> None:
    """Watch certificates that follow each other in the same files."""

    async def main() -> None:
        certificate, key = AUTHORITY.sign(lifetime=lifetimes[0]).write(folder)
        watched = Access(certificate, key, None, None)
        assert watched.pair
        warning = asyncio.create_task(watched.warn_of_expiry())
        await asyncio.sleep(0.1)
        for lifetime in lifetimes[1:]:
            AUTHORITY.sign(lifetime=lifetime).write(folder)
            watched.pair.check()
            watched.pair.check()
            await asyncio.sleep(0.1)
        warning.cancel()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second pass in a hundredth of one."""
    monkeypatch.setattr(access, "CHECK_S", 0.01)


@pytest.mark.parametrize(("days", "warning"), [(31, []), (29, ["expires on"]), (-1, ["expired on"])])
def test_a_certificate_is_warned_of_once_from_thirty_days_before_its_end(
    tmp_path: Path, days: int, warning: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    watch_for(tmp_path, [days * DAY])
    assert [text[: text.index(" on ") + 3] for text in caplog.messages] == [
        f"the certificate {tmp_path / 'server.pem'} {each}" for each in warning
    ]


def test_a_certificate_that_expires_while_it_is_in_force_is_warned_of_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        watched = Access(*AUTHORITY.sign(lifetime=timedelta(seconds=2)).write(tmp_path), None, None)
        warning = asyncio.create_task(watched.warn_of_expiry())
        async with asyncio.timeout(30):
            while len(caplog.messages) < 2:
                await asyncio.sleep(0.01)
        warning.cancel()

    asyncio.run(main())
    assert [text.split(" on ")[0].split()[-1] for text in caplog.messages] == ["expires", "expired"]


def test_each_certificate_that_is_about_to_expire_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch_for(tmp_path, [10 * DAY, 90 * DAY, 20 * DAY])
    assert sum(" expires on " in text for text in caplog.messages) == 2


def test_without_tls_there_is_nothing_to_warn_of() -> None:
    asyncio.run(asyncio.wait_for(Access(None, None, None, None).warn_of_expiry(), 5))
