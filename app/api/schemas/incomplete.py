"""What of an account could not be read from its mail server."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from app.api.schemas.base import AnswerModel, Sync, freshness
from app.services.accounts import accounts
from app.services.accounts.accounts import SyncState


class IncompleteMailbox(AnswerModel):
    """A mailbox of which the mail server does not return everything."""

    id: str = Field(description="The id of the mailbox")
    name: str = Field(description="The last level of its path")
    problem: str | None = Field(description="Why the mailbox cannot be read; null if messages of it alone cannot")
    messages: int = Field(description="Messages that the server does not return; `problems` of each say why")
    message_ids: list[str] = Field(description="The newest of these messages, 100 of an account at most")


class AccountSync(Sync):
    """How fresh what is shown of an account is, and what of it could not be read."""

    incomplete: int = Field(
        description="Mailboxes and messages that the mail server does not return; they are asked for again"
    )
    incomplete_mailboxes: list[IncompleteMailbox] = Field(description="Which they are, as the token may see them")

    @classmethod
    def told(cls, state: SyncState, incomplete: Sequence[accounts.IncompleteMailbox]) -> AccountSync:
        """`incomplete`: what the caller may see of it."""
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
