"""A mailbox as the index knows it: how a session gets into it, and what is refused of it."""

from __future__ import annotations

from dataclasses import dataclass

from app.backends.imap.connection import Completion
from app.backends.imap.selected import Selected
from app.backends.imap.session import Session
from app.errors import MailboxNotFound, MessageNotFound, TooLarge
from app.mail.types import Mailbox


@dataclass(frozen=True, slots=True)
class SelectableMailbox:
    """A mailbox as the index knows it: UIDs mean something only while its UIDVALIDITY is this."""

    name: str
    uid_validity: int

    @classmethod
    def of(cls, mailbox: Mailbox) -> SelectableMailbox:
        return cls(mailbox.origin_name, mailbox.uid_validity)


async def enter(session: Session, place: SelectableMailbox) -> Selected:
    """Select a mailbox. Raises MessageNotFound when its UIDs are no longer those that the index knows."""
    selected = await session.ensure(place.name)
    check_validity(session, place)
    return selected


async def enter_anew(session: Session, place: SelectableMailbox) -> None:
    """The same, and see the mailbox as it is now: one that stays selected may hide its newest messages."""
    await session.select(place.name)
    check_validity(session, place)


def check_validity(session: Session, place: SelectableMailbox) -> None:
    """Raises MessageNotFound when the selected mailbox has another UIDVALIDITY than the index knows."""
    if session.selected is None or session.selected.uid_validity != place.uid_validity:
        raise MessageNotFound("The mailbox was recreated on the mail server")


def check_target(completion: Completion) -> Completion:
    """Raises MailboxNotFound for a target that is gone, TooLarge, else what `check` raises."""
    code = completion.code.name if completion.code and completion.status == "NO" else ""
    if code in ("TRYCREATE", "NONEXISTENT"):
        raise MailboxNotFound("The target mailbox no longer exists on the mail server")
    if code in ("TOOBIG", "LIMIT"):
        raise TooLarge(f"The mail server finds the message too large: {completion.origin.response}")
    return completion.check()
