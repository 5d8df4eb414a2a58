from __future__ import annotations

import pytest
from app.backends.imap.quota import MAX_ROOTS, quotas_of
from app.errors import ServerProtocolError
from app.mail.backend import Quota, QuotaResource

from tests.unit.backends.imap.scripted import scripted_session

STORAGE, MESSAGE = QuotaResource.STORAGE, QuotaResource.MESSAGE


async def told(answer: str, capabilities: str = "IMAP4rev1 QUOTA") -> list[Quota] | None:
    session, _ = scripted_session({"GETQUOTAROOT": answer}, capabilities)
    found = await quotas_of(session)
    return None if found is None else list(found)


async def test_bytes_and_messages_are_told_of_each_root() -> None:
    answer = (
        '* QUOTAROOT "INBOX" "User quota" domain\r\n'
        '* QUOTA "User quota" (STORAGE 12 1024 MESSAGE 3 1000)\r\n'
        "* QUOTA domain (STORAGE 5 10 X-NUM-FOLDERS 3 9)\r\n$ OK done\r\n"
    )

    assert await told(answer) == [
        Quota("User quota", STORAGE, 12 * 1024, 1024 * 1024),
        Quota("User quota", MESSAGE, 3, 1000),
        Quota("domain", STORAGE, 5 * 1024, 10 * 1024),
    ]


async def test_an_account_without_limits_has_none() -> None:
    assert await told("* QUOTAROOT INBOX\r\n$ OK done\r\n") == []


async def test_a_server_that_has_no_quota_is_not_asked() -> None:
    assert await told("$ BAD what\r\n", "IMAP4rev1") is None


@pytest.mark.parametrize("answer", ["$ NO not for you\r\n", "$ BAD unknown command\r\n"])
async def test_a_server_that_offers_quota_and_declines_does_not_tell(answer: str) -> None:
    assert await told(answer) is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("* QUOTA\r\n$ OK\r\n", ServerProtocolError),
        ("* QUOTA x (STORAGE y z)\r\n$ OK\r\n", ServerProtocolError),
    ],
)
async def test_what_is_no_quota_is_an_error_of_ours(answer: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await told(answer)


async def test_roots_are_bounded() -> None:
    many = "".join(f"* QUOTA r{number} (STORAGE 1 2)\r\n" for number in range(1000))

    assert len(await told(f"{many}$ OK done\r\n") or []) == MAX_ROOTS
