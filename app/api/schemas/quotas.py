"""What an account may hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.api.schemas.base import AnswerModel
from app.mail import backend
from app.mail.backend import QuotaResource


class QuotaUse(AnswerModel):
    """One limit. `used` and `limit` are bytes for storage, messages for message."""

    root: str = Field(description="What the mail server calls it; mailboxes may share one")
    resource: QuotaResource
    used: int
    limit: int | None = Field(description="null: no limit is known")

    @classmethod
    def of(cls, quota: backend.Quota) -> QuotaUse:
        return cls(root=quota.root, resource=quota.resource, used=quota.used, limit=quota.limit)


class Quotas(AnswerModel):
    """The limits of an account; empty where its mail server says that it has none."""

    counted_by: Literal["origin", "index"] = Field(
        description="origin: the mail server says so; index: it does not tell, this is the mail that is known here"
    )
    items: list[QuotaUse]
