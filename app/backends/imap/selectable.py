"""Selects mailboxes of the index and checks their UIDVALIDITY."""

from __future__ import annotations

from dataclasses import dataclass

from app.backends.imap.connection import CommandCompletion
from app.backends.imap.selected import Selected
from app.backends.imap.session import ClientSession
from app.errors import MailboxNotFound, MessageNotFound, TooLarge
from app.mail.types import Mailbox


@dataclass(frozen=True, slots=True)
class SelectableMailbox:
    """A mailbox of the index. Its UIDs are valid while its UIDVALIDITY is unchanged."""

    name: str
    uid_validity: int

    @classmethod
    def of(cls, mailbox: Mailbox) -> SelectableMailbox:
        return cls(mailbox.origin_name, mailbox.uid_validity)


async def enter(session: ClientSession, mailbox: SelectableMailbox) -> Selected:
    """Select a mailbox. Raises MessageNotFound when its UIDVALIDITY has changed."""
    selected = await session.ensure(mailbox.name)
    check_validity(session, mailbox)
    return selected


async def enter_anew(session: ClientSession, mailbox: SelectableMailbox) -> None:
    """Select a mailbox again, because a mailbox that stays selected may hide its newest messages."""
    await session.select(mailbox.name)
    check_validity(session, mailbox)


def check_validity(session: ClientSession, mailbox: SelectableMailbox) -> None:
    """Raises MessageNotFound when the selected mailbox has another UIDVALIDITY than in the index."""
    if session.selected is None or session.selected.uid_validity != mailbox.uid_validity:
        raise MessageNotFound("The mailbox was recreated on the mail server")


def check_target(completion: CommandCompletion) -> CommandCompletion:
    """Raises MailboxNotFound for a target that does not exist, TooLarge, else what `check` raises."""
    code = completion.code.name if completion.code and completion.status == "NO" else ""
    if code in ("TRYCREATE", "NONEXISTENT"):
        raise MailboxNotFound("The target mailbox no longer exists on the mail server")
    if code in ("TOOBIG", "LIMIT"):
        raise TooLarge(f"The message is too large for the mail server: {completion.origin.response}")
    return completion.check()
