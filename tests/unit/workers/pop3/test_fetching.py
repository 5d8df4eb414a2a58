from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from app.backends.pop3.session import Pop3Session
from app.errors import NotStorable
from app.mail.confirmed import Applied
from app.mail.delta import Arrived, Delta, Location
from app.mail.types import MailboxId, Overview
from app.mailstore.pop3_ledger import Key, Line, Pop3Ledger, Pop3State
from app.mailstore.store import MailStore
from app.workers.pop3.fetching import Fetching, _Change

INBOX = MailboxId("mbx_inbox")
POISON = "poison"


@dataclass
class RefusingLedger:
    """A ledger that refuses each transaction with POISON in a subject."""

    written: list[tuple[str, str]] = field(default_factory=list)
    """Unique id and subject."""

    async def write(
        self,
        put: Sequence[Line] = (),
        drop: Sequence[Key] = (),
        delta: Delta | None = None,
        arrived: Sequence[tuple[Line, Arrived]] = (),
    ) -> Applied:
        if any(one.overview.subject == POISON for _, one in arrived):
            raise NotStorable
        applied = Applied()
        for line, one in arrived:
            self.written.append((line.key.uidl, one.overview.subject))
            applied.message_ids[Location(INBOX, len(self.written))] = "msg"  # type: ignore[assignment]
        return applied


async def test_a_message_that_the_ledger_refuses_keeps_no_other_out() -> None:
    ledger = RefusingLedger()
    fetching = Fetching(
        cast("Pop3Session", None), cast("Pop3Ledger", ledger), cast("MailStore", None), INBOX, [], lambda _: ()
    )
    subjects = ("first", POISON, "third")

    await fetching._write(
        _Change([(Line(Key(subject, 0), 9, Pop3State.STORED), _arrived(subject)) for subject in subjects])
    )

    assert ledger.written == [("first", "first"), (POISON, ""), ("third", "third")]
    assert [one.uid for one in fetching.new] == [1, 2, 3]


def _arrived(subject: str) -> Arrived:
    return Arrived(INBOX, 0, frozenset(), 0, 9, Overview(subject), None)
