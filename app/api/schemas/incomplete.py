"""Schemas of mailboxes and messages that the mail server does not return."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from app.api.schemas.base import AnswerModel, Sync, freshness
from app.services.accounts import accounts
from app.services.accounts.accounts import SyncState


class IncompleteMailbox(AnswerModel):
    """A mailbox that the mail server does not return completely."""

    id: str = Field(description="The id of the mailbox")
    name: str = Field(description="The last level of its path")
    problem: str | None = Field(description="Why the mailbox cannot be read; null if only some of its messages cannot")
    messages: int = Field(description="Messages that the server does not return; their `problems` say why")
    message_ids: list[str] = Field(description="The newest of these messages, 100 of an account at most")


class AccountSync(Sync):
    """How fresh the data of an account is, and what could not be read."""

    incomplete: int = Field(
        description="Mailboxes and messages that the mail server does not return; Postgate retries them"
    )
    incomplete_mailboxes: list[IncompleteMailbox] = Field(description="The mailboxes that the token can see among them")

    @classmethod
    def with_incomplete(cls, state: SyncState, incomplete: Sequence[accounts.IncompleteMailbox]) -> AccountSync:
        """Return an AccountSync. `incomplete`: the incomplete mailboxes that the caller can see."""
        facts = {
            "incomplete": sum(incomplete_mailbox.count for incomplete_mailbox in incomplete),
            "incomplete_mailboxes": [
                {
                    "id": incomplete_mailbox.id,
                    "name": incomplete_mailbox.name,
                    "problem": incomplete_mailbox.problem,
                    "messages": incomplete_mailbox.messages,
                    "message_ids": incomplete_mailbox.message_ids,
                }
                for incomplete_mailbox in incomplete
            ],
        }
        return cls.model_validate(freshness(state) | facts)
