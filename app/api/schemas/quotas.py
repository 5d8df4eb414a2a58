"""Schemas of quotas."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.api.schemas.base import AnswerModel
from app.mail import backend
from app.mail.backend import QuotaResource

CountedBy = Literal["origin", "index"]


class QuotaUse(AnswerModel):
    """One limit. `used` and `limit` are bytes for storage, messages for message."""

    root: str = Field(description="Its name on the mail server; mailboxes may share a quota root")
    resource: QuotaResource = Field(description="What is limited: `storage` in bytes, `message` in messages")
    used: int = Field(description="How much is used")
    limit: int | None = Field(description="null: no limit is known")

    @classmethod
    def of(cls, quota: backend.Quota) -> QuotaUse:
        return cls(root=quota.root, resource=quota.resource, used=quota.used, limit=quota.limit)


class Quotas(AnswerModel):
    """The limits of an account; empty if its mail server reports that it has none."""

    counted_by: CountedBy = Field(
        description="`origin`: reported by the mail server; `index`: counted from the index instead"
    )
    items: list[QuotaUse] = Field(description="The limits")
