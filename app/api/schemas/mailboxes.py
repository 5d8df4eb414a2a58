"""Schemas of mailboxes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.api.schemas.base import AnswerModel, Boolean, Id, PatchModel, RequestModel, Sync
from app.mail import types
from app.mail.types import Role
from app.services.changing.mailboxes import NAME_LIMIT_CHARS, MailboxChanges

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_LIMIT_CHARS)]


class MailboxSync(AnswerModel):
    """Whether Postgate has all of a mailbox."""

    status: Literal["initial", "live", "incomplete"] = Field(
        description="`initial`: the initial sync is running, and lists already work; `live`: complete, and as fresh as "
        "the account; `incomplete`: the mail server does not return all of it, and Postgate retries"
    )
    problem: str | None = Field(description="Why it is incomplete; null if it is not")

    @classmethod
    def of(cls, mailbox: types.Mailbox) -> MailboxSync:
        is_whole = mailbox.is_complete or not mailbox.is_selectable
        status = "incomplete" if mailbox.problem is not None else "live" if is_whole else "initial"
        return cls.model_validate({"status": status, "problem": mailbox.problem})


class Mailbox(AnswerModel):
    """A mailbox."""

    id: str
    account_id: str
    name: str
    path: str = Field(description="The names from the top level, separated by `/`")
    parent_id: str | None
    role: Role | None
    total: int = Field(description="Messages in the mailbox")
    unread: int
    is_subscribed: bool
    uid_validity: int
    uid_next: int
    sync: MailboxSync = Field(description="Whether Postgate has all of it")

    @classmethod
    def of(cls, mailbox: types.Mailbox) -> Mailbox:
        return cls(
            id=mailbox.id,
            account_id=mailbox.account_id,
            name=mailbox.name,
            path=mailbox.path,
            parent_id=mailbox.parent_id,
            role=mailbox.role,
            total=mailbox.total,
            unread=mailbox.unread,
            is_subscribed=bool(mailbox.is_subscribed),
            uid_validity=mailbox.uid_validity,
            uid_next=mailbox.uid_next,
            sync=MailboxSync.of(mailbox),
        )


class MailboxList(AnswerModel):
    """Mailboxes of an account, by path; all of them unless `limit` is set."""

    items: list[Mailbox]
    next_cursor: str | None = None
    prev_cursor: str | None = None
    state: str = Field(description="The account's state before the read; also the ETag")
    sync: Sync


class CreateMailbox(RequestModel):
    """A mailbox to create."""

    name: Name
    parent_id: Id | None = None
    role: Role | None = None


class UpdateMailbox(PatchModel):
    """Changes to a mailbox. Absent fields do not change."""

    CLEARABLE = frozenset({"parent_id", "role"})

    name: Name | None = None
    parent_id: Id | None = Field(None, description="null moves it to the top level")
    is_subscribed: Boolean | None = None
    role: Role | None = Field(None, description="null removes its role")

    def changes(self) -> MailboxChanges:
        return MailboxChanges(
            name=self.name,
            parent_id=self.parent_id,
            is_moved="parent_id" in self.model_fields_set,
            is_subscribed=self.is_subscribed,
            role=self.role,
            is_role_set="role" in self.model_fields_set,
        )
