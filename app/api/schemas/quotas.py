"""What an account may hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.api.schemas.base import AnswerModel
from app.mail import backend
from app.mail.backend import QuotaResource

CountedBy = Literal["origin", "index"]


class QuotaUse(AnswerModel):
    """One limit. `used` and `limit` are bytes for storage, messages for message."""

    root: str = Field(description="What the mail server calls it; mailboxes may share one")
    resource: QuotaResource = Field(description="What is limited: `storage` in bytes, `message` in messages")
    used: int = Field(description="How much is used")
    limit: int | None = Field(description="null: no limit is known")

    @classmethod
    def of(cls, quota: backend.Quota) -> QuotaUse:
        return cls(root=quota.root, resource=quota.resource, used=quota.used, limit=quota.limit)


class Quotas(AnswerModel):
    """The limits of an account; empty where its mail server says that it has none."""

    counted_by: CountedBy = Field(
        description="`origin`: the mail server reports it; `index`: it does not, and the known mail was counted"
    )
    items: list[QuotaUse] = Field(description="The limits")
