from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from app.backends.imap import searching
from app.errors import ServerProtocolError
from app.wire.imap.long_numbers import BYTES_AT_ONCE

from tests.unit.backends.imap.scripted import scripted_session


async def test_a_mailbox_of_more_messages_than_there_can_be_is_not_believed() -> None:
    session, _ = scripted_session(
        {"UID SEARCH": "* ESEARCH UID ALL 1:4294967295\r\n$ OK done\r\n"}, "IMAP4rev1 ESEARCH"
    )

    with pytest.raises(ServerProtocolError):
        await searching.uids_of(session, "INBOX")


@pytest.mark.parametrize(
    ("capabilities", "answer", "separator"),
    [("IMAP4rev1", "* SEARCH {}", " "), ("IMAP4rev1 ESEARCH", "* ESEARCH UID ALL {}", ",")],
)
async def test_a_search_that_finds_every_other_message_is_read_with_pauses_for_others(
    capabilities: str, answer: str, separator: str
) -> None:
    uids = range(1_000_000, 1_200_000, 2)
    line = answer.format(separator.join(map(str, uids)))
    session, _ = scripted_session({"UID SEARCH": f"{line}\r\n$ OK done\r\n"}, capabilities)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count_turns())
    found = await searching.uids_of(session, "INBOX")
    others.cancel()
    with suppress(asyncio.CancelledError):
        await others

    assert list(found) == list(uids)
    assert turns >= len(line) // BYTES_AT_ONCE
