from __future__ import annotations

from dataclasses import replace
from typing import cast

from app.cluster.bus import LocalBus
from app.cluster.followers import FOLLOWED_SECONDS, Followers
from app.db.session import Database
from app.mail.backend import Backends, OriginMailbox
from app.mail.delta import Arrived, Known
from app.mail.types import SEEN, AccountId, Flags, Mailbox, MailboxId, Overview
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.reading.mailboxes import IndexStatus, MailboxReader
from app.services.accounts.initial_listing import InitialListing
from app.services.reading.freshness import SWEPT_SECONDS, Freshness, difference_of_newest

ACCOUNT = AccountId("acc_1")

INBOX = Mailbox(
    MailboxId("mbx_1"), AccountId("acc_1"), "INBOX", None, 7, 11, 5, 10, 0, True, True, None, "INBOX", "/", True
)


def _arrived(uid: int, flags: Flags = frozenset(), uid_validity: int = 7) -> Arrived:
    return Arrived(INBOX.id, uid, flags, uid, 10, Overview(), None, modseq=9, uid_validity=uid_validity)


def _known(*uids: int) -> dict[int, Known]:
    return {uid: Known(frozenset(), 5) for uid in uids}


def test_what_is_known_already_changes_nothing() -> None:
    assert not difference_of_newest(INBOX, [_arrived(2), _arrived(1)], _known(1, 2), 50, None)


def test_new_flagged_and_removed_messages_are_told() -> None:
    delta = difference_of_newest(INBOX, [_arrived(12), _arrived(3, frozenset({SEEN}))], _known(2, 3), 50, None)

    assert [(one.uid, one.is_announced) for one in delta.arrived] == [(12, True)]
    assert [(one.location.uid, one.flags, one.modseq) for one in delta.flagged] == [(3, frozenset({SEEN}), 9)]
    assert [one.location.uid for one in delta.removed] == [2]


def test_what_lies_beyond_the_newest_is_not_judged() -> None:
    delta = difference_of_newest(INBOX, [_arrived(9), _arrived(7)], _known(1, 7, 8, 9), 2, None)
    assert [one.location.uid for one in delta.removed] == [8]

    older = difference_of_newest(INBOX, [_arrived(4), _arrived(2)], _known(1, 3, 4, 7, 9), 2, 5)
    assert [one.location.uid for one in older.removed] == [3]


def test_the_disappearance_of_nearly_everything_is_not_believed() -> None:
    known = _known(*range(1, 101))

    assert not difference_of_newest(INBOX, [], known, 50, None)
    assert len(difference_of_newest(INBOX, [], _known(1, 2), 50, None).removed) == 2


def test_a_mailbox_made_anew_is_left_to_the_sync_worker() -> None:
    assert not difference_of_newest(INBOX, [_arrived(1, uid_validity=8)], _known(1, 2), 50, None)


def test_what_a_first_sync_has_yet_to_reach_is_not_announced_as_new() -> None:
    incomplete = replace(INBOX, is_complete=False)

    delta = difference_of_newest(incomplete, [_arrived(12), _arrived(9)], {}, 50, None)

    assert [(one.uid, one.is_announced) for one in delta.arrived] == [(9, False), (12, True)]


class Origin:
    """Counts how often it is asked for its list."""

    def __init__(self) -> None:
        self.asked = 0

    async def of(self, _: AccountId) -> Origin:
        return self

    async def list_mailboxes(self) -> list[OriginMailbox]:
        self.asked += 1
        return []


class NothingNew:
    async def is_unknown(self, *_: object) -> bool:
        return False


class NoMailboxes:
    async def mailboxes(self, _: AccountId) -> list[Mailbox]:
        return []

    async def standing(self, _: AccountId, _mailbox_id: str | None) -> IndexStatus:
        return standing("idle")


def standing(mode: str) -> IndexStatus:
    return IndexStatus(5, 0, "live", mode, 0, 7, True, 10)


def empty_reader() -> MailReader:
    reader = MailReader(cast("Database", None))
    reader.mailboxes = cast("MailboxReader", NoMailboxes())
    return reader


async def asked_by_lists(mode: str, *seconds: float) -> list[int]:
    """How often the origin was asked after each of some lists, which come this many seconds after the first."""
    now = [0.0]
    origin = Origin()
    followers = Followers(LocalBus(), lambda: now[0])
    freshness = Freshness(
        cast("Backends", origin), cast("Index", None), empty_reader(), followers, cast("InitialListing", NothingNew())
    )
    found = []
    for now[0] in seconds:
        _, state = await freshness.settle(ACCOUNT, standing(mode), None, count=10)
        assert state.status == "live"
        found.append(origin.asked)
    return found


async def test_the_first_list_of_an_account_that_nobody_followed_asks_the_server() -> None:
    assert await asked_by_lists("idle", 0, SWEPT_SECONDS, SWEPT_SECONDS + 500) == [1, 1, 1]
    assert await asked_by_lists("sweep", 0, 5, FOLLOWED_SECONDS * 2) == [1, 2, 3]


async def test_that_a_server_has_notify_is_no_reason_not_to_ask_it_first() -> None:
    assert await asked_by_lists("notify", 0, SWEPT_SECONDS, FOLLOWED_SECONDS * 2) == [1, 1, 2]
