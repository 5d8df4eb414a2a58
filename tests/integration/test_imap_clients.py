"""Programs that people use, each doing a real job against the embedded IMAP server."""

from __future__ import annotations

import asyncio
import imaplib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.imap_house import PASSWORD, USER, ImapHouse, mail, open_imap_house


@pytest.fixture
async def imap(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with open_imap_house(tmp_path) as house:
        yield house


def _read_and_flag(port: int) -> tuple[list[bytes], bytes]:
    with imaplib.IMAP4("127.0.0.1", port) as client:
        client.login(USER, PASSWORD)
        _, total = client.select("INBOX")
        assert total == [b"2"]
        _, found = client.uid("SEARCH", "UNSEEN")
        _, data = client.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        client.uid("STORE", "2", "+FLAGS", "(\\Deleted)")
        client.expunge()
        _, whole = client.fetch("1", "(RFC822)")
        client.append("Drafts", "(\\Draft)", imaplib.Time2Internaldate(0), mail("Drafted"))
        subjects = [item[1] for item in data if isinstance(item, tuple)]
        assert isinstance(whole[0], tuple)
        return [*found, *subjects], whole[0][1]


async def test_imaplib_reads_flags_appends_and_removes(imap: ImapHouse) -> None:
    await imap.deliver(mail("One"))
    await imap.deliver(mail("Two"))

    found, whole = await asyncio.to_thread(_read_and_flag, imap.port)

    assert found == [b"1 2", b"Subject: One\r\n\r\n", b"Subject: Two\r\n\r\n"]
    assert whole == mail("One")
    assert await imap.house.contents(imap.account_id) == [mail("One")]
    assert await imap.house.contents(imap.account_id, "Drafts") == [mail("Drafted")]
    assert (await imap.house.mailbox(imap.account_id)).unread == 0
