"""What a list of the origin's mailboxes says that the index does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.mail.backend import OriginMailbox
from app.mail.delta import Delta, MailboxCounted, MailboxFound, MailboxRenamed, MailboxReset
from app.mail.types import Mailbox, MailboxId, Role
from app.mirror.account import Mirror

RENAMED_GROWTH = 1_000
"""How many UIDs a mailbox may have given since it was last seen and still be known under another name."""
NEWCOMER_MESSAGES = 500
"""A new mailbox with at most this many messages is announced message by message."""


@dataclass(frozen=True, slots=True)
class ListChanges:
    """`gone` are mailboxes that are to be deleted when all that came elsewhere has been looked at."""

    delta: Delta
    gone: tuple[Mailbox, ...]


def renames(known: Sequence[Mailbox], listed: Sequence[OriginMailbox]) -> tuple[MailboxRenamed, ...]:
    """Mailboxes that went to another name: one that is not where it was, and a new one that it is by its MAILBOXID.

    Where the origin gives none, by its UIDVALIDITY; where two could be meant then, neither is: ids are not guessed.
    In an order in which each finds its name free.
    """
    theirs = {origin_mailbox.origin_name: origin_mailbox for origin_mailbox in listed}
    ours = {item.origin_name: item for item in known}
    missing = [item for item in known if item.uid_validity and not _is_at(item, theirs.get(item.origin_name))]
    fresh = [
        origin_mailbox
        for origin_mailbox in listed
        if origin_mailbox.uid_validity is not None and not _is_at(ours.get(origin_mailbox.origin_name), origin_mailbox)
    ]
    pairs: dict[MailboxId, OriginMailbox] = {}
    for mailbox in missing:
        found = [item for item in fresh if _may_be(mailbox, item)]
        if len(found) == 1:
            pairs[mailbox.id] = found[0]
    targets = [pair.origin_name for pair in pairs.values()]
    renamed = [(item, pairs[item.id]) for item in missing if item.id in pairs]
    wanted = {one.origin_name: to for one, to in renamed if targets.count(to.origin_name) == 1}
    return _in_free_order({one.origin_name: one for one, _ in renamed}, wanted, set(ours))


def _is_at(mailbox: Mailbox | None, there: OriginMailbox | None) -> bool:
    """Whether a mailbox is what has its name on the origin."""
    if mailbox is None or there is None:
        return False
    if (is_same := _is_by_id(mailbox, there)) is not None:
        return is_same
    return there.uid_validity in (None, mailbox.uid_validity)


def _is_by_id(mailbox: Mailbox, item: OriginMailbox) -> bool | None:
    """Whether they are one by MAILBOXID; None where that is not known of both."""
    return None if None in (mailbox.origin_id, item.origin_id) else mailbox.origin_id == item.origin_id


def _may_be(mailbox: Mailbox, item: OriginMailbox) -> bool:
    """Whether `mailbox` may be `one` under its new name."""
    if mailbox.role is Role.INBOX:
        return False
    if (is_same := _is_by_id(mailbox, item)) is not None:
        return is_same
    grown = (item.uid_next or 0) - mailbox.uid_next
    return item.uid_validity == mailbox.uid_validity and 0 <= grown <= RENAMED_GROWTH


def _in_free_order(
    mailboxes: Mapping[str, Mailbox], wanted: Mapping[str, OriginMailbox], taken: set[str]
) -> tuple[MailboxRenamed, ...]:
    done: list[MailboxRenamed] = []
    waiting = dict(wanted)
    while ready := [name for name, to in waiting.items() if to.origin_name not in taken]:
        for name in ready:
            to = waiting.pop(name)
            taken.discard(name)
            taken.add(to.origin_name)
            done.append(MailboxRenamed(mailboxes[name].id, to.path, to.origin_name))
    return tuple(done)


def list_changes(known: Sequence[Mailbox], listed: Sequence[OriginMailbox]) -> ListChanges:
    """New, changed and reset mailboxes as a Delta, and those that are gone. Renames are applied before.

    What is new where mail is known already may hold what was moved there.
    """
    is_begun = any(mailbox.is_complete and mailbox.total for mailbox in known)
    by_name = {mailbox.origin_name: mailbox for mailbox in known}
    names = {mailbox.origin_name for mailbox in listed}
    found = tuple(
        _found(mailbox, is_newcomer=is_begun)
        for mailbox in listed
        if is_news(mailbox, by_name.get(mailbox.origin_name))
    )
    reset = tuple(
        MailboxReset(ours.id, mailbox.uid_validity)
        for mailbox in listed
        if (ours := by_name.get(mailbox.origin_name)) is not None
        and mailbox.uid_validity is not None
        and mailbox.uid_validity != ours.uid_validity
    )
    gone = tuple(mailbox for mailbox in known if mailbox.origin_name not in names)
    return ListChanges(Delta(mailboxes_found=found, mailboxes_reset=reset), gone)


def is_news(mailbox: OriginMailbox, ours: Mailbox | None) -> bool:
    """Whether the index has no such mailbox, or another path, role, subscription or id of it."""
    if ours is None or mailbox.origin_id not in (None, ours.origin_id):
        return True
    role = mailbox.role or ours.role
    now = (mailbox.path, role, mailbox.is_subscribed, mailbox.is_selectable)
    return now != (ours.path, ours.role, ours.is_subscribed, ours.is_selectable)


def _found(mailbox: OriginMailbox, *, is_newcomer: bool) -> MailboxFound:
    return MailboxFound(
        mailbox.origin_name,
        mailbox.path,
        mailbox.delimiter,
        mailbox.role,
        mailbox.uid_validity or 0,
        is_subscribed=mailbox.is_subscribed,
        is_selectable=mailbox.is_selectable,
        is_newcomer=is_newcomer,
        origin_id=mailbox.origin_id,
    )


def beginnings(known: Iterable[Mailbox], listed: Mapping[str, OriginMailbox]) -> tuple[MailboxCounted, ...]:
    """Where the first sync of each mailbox that has none begins: what comes later than this is new mail.

    Of a small newcomer everything is new mail; an empty mailbox is complete.
    """
    return tuple(
        _beginning(ours, listed[ours.origin_name], is_newcomer=ours.is_newcomer)
        for ours in known
        if not ours.is_complete and ours.uid_next <= 1 and _is_told(listed.get(ours.origin_name))
    )


def _is_told(told: OriginMailbox | None) -> bool:
    """Where STATUS was refused nothing can begin."""
    return told is not None and (told.uid_next is not None or not told.is_selectable)


def _beginning(ours: Mailbox, told: OriginMailbox, *, is_newcomer: bool) -> MailboxCounted:
    if not told.is_selectable or told.total == 0:
        return MailboxCounted(ours.id, told.uid_next, told.highest_modseq, is_complete=True)
    if is_newcomer and (told.total or 0) <= NEWCOMER_MESSAGES:
        return MailboxCounted(ours.id, 1, told.highest_modseq, total=0, unread=0)
    return MailboxCounted(ours.id, told.uid_next, told.highest_modseq, told.total, told.unread)


def differs(ours: Mailbox, told: OriginMailbox) -> bool:
    """Whether the origin's numbers are others than those of a complete mailbox."""
    pairs = (
        (told.uid_next, ours.uid_next),
        (told.highest_modseq, ours.highest_modseq),
        (told.total, ours.total),
        (told.unread, ours.unread),
    )
    return any(theirs is not None and theirs != known for theirs, known in pairs)


def is_ahead(ours: Mailbox, told: OriginMailbox | None) -> bool:
    """Whether the index expects new mail at a higher UID than the origin will give."""
    if told is None or told.uid_next is None or told.uid_validity != ours.uid_validity:
        return False
    return told.uid_next < ours.uid_next


def is_miscounted(ours: Mailbox, told: OriginMailbox) -> bool:
    """Whether the counts differ though the origin has given no UID that we don't know of."""
    if told.total is None or told.uid_next != ours.uid_next:
        return False
    return told.total != ours.total or told.unread not in (None, ours.unread)


_PLACES: dict[Role | None, int] = {Role.INBOX: 0, None: 2, Role.ALL: 3}


def first_sync_order(mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
    """INBOX, those with a role, then the others, the smaller ones first; All Mail, which repeats the others, last."""

    def rank(mailbox: Mailbox) -> tuple[int, int, str]:
        place = _PLACES.get(mailbox.role, 1)
        return place, mailbox.total if place > 1 else 0, mailbox.path

    return sorted(mailboxes, key=rank)


async def take_first_list(mirror: Mirror, listed: Sequence[OriginMailbox]) -> None:
    """Write the mailboxes of an account of which none, or not all, are known, and where their first syncs begin."""
    if found := list_changes(await mirror.mailboxes(), listed).delta.mailboxes_found:
        await mirror.apply(Delta(mailboxes_found=found))
    told = {mailbox.origin_name: mailbox for mailbox in listed}
    if begun := beginnings(await mirror.mailboxes(), told):
        await mirror.apply(Delta(mailboxes_counted=begun))
