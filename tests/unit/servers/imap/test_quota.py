"""GETQUOTAROOT and GETQUOTA (RFC 9208)."""

from __future__ import annotations

from tests.harness import Harness
from tests.unit.servers.imap.talk import Talk


async def test_a_mailbox_counts_to_one_root_without_limits(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    assert await talk.say("GETQUOTAROOT inbox") == [
        b'* QUOTAROOT "INBOX" ""',
        b'* QUOTA "" ()',
        b"a OK GETQUOTAROOT completed",
    ]
    assert await talk.say('GETQUOTA ""') == [b'* QUOTA "" ()', b"a OK GETQUOTA completed"]


async def test_a_root_or_mailbox_that_is_not_there_is_refused(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    assert (await talk.say("GETQUOTA user"))[0].startswith(b"a NO [NONEXISTENT]")
    assert (await talk.say("GETQUOTAROOT Nowhere"))[0].startswith(b"a NO [NONEXISTENT]")
