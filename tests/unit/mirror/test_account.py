"""A large Delta in several transactions."""

from __future__ import annotations

from functools import reduce

from app.mail.delta import Delta, Flagged, Location, MailboxCounted, Removed
from app.mail.types import MailboxId
from app.mirror.account import pieces

BOX = MailboxId("mbx_1")
COUNTED = MailboxCounted(BOX, 9, 9)


def delta(count: int) -> Delta:
    return Delta(
        flagged=tuple(Flagged(Location(BOX, uid), frozenset()) for uid in range(count)),
        removed=tuple(Removed(Location(BOX, uid)) for uid in range(count, 2 * count)),
        mailboxes_counted=(COUNTED,),
    )


def test_a_small_delta_is_one_transaction() -> None:
    assert list(pieces(delta(2), 2)) == [delta(2)]


def test_nothing_is_no_transaction() -> None:
    assert list(pieces(Delta())) == []


def test_a_large_delta_keeps_its_facts_in_order_and_its_numbers_last() -> None:
    cut = list(pieces(delta(5), 2))

    assert reduce(Delta.__add__, cut) == delta(5)
    assert cut[-1] == Delta(mailboxes_counted=(COUNTED,))
    assert [len(one.flagged) for one in cut if one.flagged] == [2, 2, 1]
