"""The differences between a server's list of mailboxes and the index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.mail.backend import OriginMailbox
from app.mail.delta import Delta, MailboxCounted, MailboxFound, MailboxRenamed, MailboxReset
from app.mail.types import Mailbox, MailboxId, Role
from app.mirror.account import Mirror

RENAMED_GROWTH = 1_000
"""The most UIDs that a mailbox may have added since it was last seen and still be recognised under another name."""
NEWCOMER_MESSAGES = 500
"""A new mailbox with at most this many messages is announced message by message."""


@dataclass(frozen=True, slots=True)
class ListChanges:
    """`gone` are mailboxes to delete after all arrivals elsewhere have been examined."""

    delta: Delta
    gone: tuple[Mailbox, ...]


def renames(known: Sequence[Mailbox], listed: Sequence[OriginMailbox]) -> tuple[MailboxRenamed, ...]:
    """Return renamed mailboxes: one that disappeared, and a new one with its MAILBOXID.

    Without MAILBOXID, UIDVALIDITY is compared; if that is ambiguous, neither is renamed: ids are not guessed. In an
    order in which each new name is free.
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
        candidates = [item for item in fresh if _may_be(mailbox, item)]
        if len(candidates) == 1:
            pairs[mailbox.id] = candidates[0]
    targets = [pair.origin_name for pair in pairs.values()]
    renamed = [(item, pairs[item.id]) for item in missing if item.id in pairs]
    wanted = {mailbox.origin_name: to for mailbox, to in renamed if targets.count(to.origin_name) == 1}
    return _in_free_order({mailbox.origin_name: mailbox for mailbox, _ in renamed}, wanted, set(ours))


def _is_at(mailbox: Mailbox | None, listed: OriginMailbox | None) -> bool:
    """Whether a mailbox is the one with its name on the server."""
    if mailbox is None or listed is None:
        return False
    if (is_same := _is_by_id(mailbox, listed)) is not None:
        return is_same
    return listed.uid_validity in (None, mailbox.uid_validity)


def _is_by_id(mailbox: Mailbox, item: OriginMailbox) -> bool | None:
    """Whether their MAILBOXIDs are equal; None if one is unknown."""
    return None if None in (mailbox.origin_id, item.origin_id) else mailbox.origin_id == item.origin_id


def _may_be(mailbox: Mailbox, item: OriginMailbox) -> bool:
    """Whether `mailbox` may be `item` under its new name."""
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
    """Return new, changed and reset mailboxes as a Delta, and removed ones. Renames are applied before.

    A mailbox that appears after the account was synced may contain moved messages.
    """
    is_begun = any(mailbox.is_complete and mailbox.total for mailbox in known)
    by_name = {mailbox.origin_name: mailbox for mailbox in known}
    names = {mailbox.origin_name for mailbox in listed}
    found = tuple(
        _mailbox_found(mailbox, is_newcomer=is_begun)
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
    removed = tuple(mailbox for mailbox in known if mailbox.origin_name not in names)
    return ListChanges(Delta(mailboxes_found=found, mailboxes_reset=reset), removed)


def is_news(mailbox: OriginMailbox, ours: Mailbox | None) -> bool:
    """Whether the index lacks the mailbox, or has another path, role, subscription or id of it."""
    if ours is None or mailbox.origin_id not in (None, ours.origin_id):
        return True
    role = mailbox.role or ours.role
    now = (mailbox.path, role, mailbox.is_subscribed, mailbox.is_selectable)
    return now != (ours.path, ours.role, ours.is_subscribed, ours.is_selectable)


def _mailbox_found(mailbox: OriginMailbox, *, is_newcomer: bool) -> MailboxFound:
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
    """Return where the initial sync of each mailbox without one begins: later messages are new mail.

    All messages of a small new mailbox are new mail; an empty mailbox is complete.
    """
    return tuple(
        _beginning(ours, listed[ours.origin_name], is_newcomer=ours.is_newcomer)
        for ours in known
        if not ours.is_complete and ours.uid_next <= 1 and _has_status(listed.get(ours.origin_name))
    )


def _has_status(listed: OriginMailbox | None) -> bool:
    """Whether STATUS succeeded, or the mailbox is not selectable."""
    return listed is not None and (listed.uid_next is not None or not listed.is_selectable)


def _beginning(ours: Mailbox, listed: OriginMailbox, *, is_newcomer: bool) -> MailboxCounted:
    if not listed.is_selectable or listed.total == 0:
        return MailboxCounted(ours.id, listed.uid_next, listed.highest_modseq, is_complete=True)
    if is_newcomer and (listed.total or 0) <= NEWCOMER_MESSAGES:
        return MailboxCounted(ours.id, 1, listed.highest_modseq, total=0, unread=0)
    return MailboxCounted(ours.id, listed.uid_next, listed.highest_modseq, listed.total, listed.unread)


def differs(ours: Mailbox, listed: OriginMailbox) -> bool:
    """Whether the server's numbers differ from those of a complete mailbox."""
    pairs = (
        (listed.uid_next, ours.uid_next),
        (listed.highest_modseq, ours.highest_modseq),
        (listed.total, ours.total),
        (listed.unread, ours.unread),
    )
    return any(theirs is not None and theirs != known for theirs, known in pairs)


def is_ahead(ours: Mailbox, listed: OriginMailbox | None) -> bool:
    """Whether the index expects new mail at a higher UID than the server will assign."""
    if listed is None or listed.uid_next is None or listed.uid_validity != ours.uid_validity:
        return False
    return listed.uid_next < ours.uid_next


def is_miscounted(ours: Mailbox, listed: OriginMailbox) -> bool:
    """Whether the counts differ although the server has assigned no unknown UID."""
    if listed.total is None or listed.uid_next != ours.uid_next:
        return False
    return listed.total != ours.total or listed.unread not in (None, ours.unread)


_PLACES: dict[Role | None, int] = {Role.INBOX: 0, None: 2, Role.ALL: 3}


def first_sync_order(mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
    """Sort: INBOX, mailboxes with a role, the others, smaller ones first, and last All Mail, which repeats them."""

    def rank(mailbox: Mailbox) -> tuple[int, int, str]:
        place = _PLACES.get(mailbox.role, 1)
        return place, mailbox.total if place > 1 else 0, mailbox.path

    return sorted(mailboxes, key=rank)


async def take_first_list(mirror: Mirror, listed: Sequence[OriginMailbox]) -> None:
    """Write the mailboxes of a new account, and where their initial syncs begin."""
    if new_mailboxes := list_changes(await mirror.mailboxes(), listed).delta.mailboxes_found:
        await mirror.apply(Delta(mailboxes_found=new_mailboxes))
    by_name = {mailbox.origin_name: mailbox for mailbox in listed}
    if begun := beginnings(await mirror.mailboxes(), by_name):
        await mirror.apply(Delta(mailboxes_counted=begun))
