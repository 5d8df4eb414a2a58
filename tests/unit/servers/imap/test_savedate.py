"""SAVEDATE (RFC 8514): when a message came into its mailbox, whatever its INTERNALDATE says."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from app.db.session import Transaction
from app.db.tables import MESSAGE
from app.wire.imap.dates import render_date
from sqlalchemy import update

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import Talk
from tests.unit.servers.imap.test_messages import with_mail

TODAY = render_date(datetime.now(UTC).date())
_DATE = re.compile(rb'SAVEDATE ("[^"]+"|NIL)')


async def save_dates(talk: Talk) -> list[bytes]:
    return [match[1] for line in await talk.say("FETCH 1:* SAVEDATE") if (match := _DATE.search(line))]


async def forget(harness: Harness) -> None:
    """Leave the rows as an older version wrote them."""

    async def work(transaction: Transaction) -> None:
        await transaction.execute(update(MESSAGE).values(saved_at_ms=None))

    await harness.database.write(work)


async def test_a_message_is_saved_when_it_is_appended_copied_or_moved(harness: Harness) -> None:
    talk = await with_mail(harness, mail("a"), mail("b"))
    await talk.say("CREATE Box")
    await forget(harness)
    assert await save_dates(talk) == [b"NIL", b"NIL"]

    await talk.say("COPY 1 Box")
    await talk.say("MOVE 2 Box")

    assert await save_dates(talk) == [b"NIL"]
    await talk.say("SELECT Box")
    assert [date.strip(b'" ').split(b" ")[0] for date in await save_dates(talk)] == [TODAY.encode()] * 2


async def test_a_search_by_save_date_takes_internaldate_where_it_was_not_kept(harness: Harness) -> None:
    talk = await with_mail(harness, mail("a"))
    await forget(harness)
    await with_mail(harness, mail("b"))
    await talk.say("NOOP")

    found = {
        criteria: (await talk.say(f"SEARCH {criteria}"))[0]
        for criteria in ("SAVEDON 1-Jan-2024", "SAVEDBEFORE 1-Jan-2024", f"SAVEDSINCE {TODAY}", "SAVEDATESUPPORTED")
    }

    assert found == {
        "SAVEDON 1-Jan-2024": b"* SEARCH 1",
        "SAVEDBEFORE 1-Jan-2024": b"* SEARCH",
        f"SAVEDSINCE {TODAY}": b"* SEARCH 2",
        "SAVEDATESUPPORTED": b"* SEARCH 1 2",
    }
