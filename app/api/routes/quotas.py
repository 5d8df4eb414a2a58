"""Quotas of an account."""

from __future__ import annotations

from typing import Literal, cast

from app.api.deps import CurrentCaller, ReadableAccount
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.quotas import Quotas, QuotaUse
from app.api.services import QuotasService
from app.errors import LoginRefused, ServerProtocolError, ServerRefused, TimedOut, Unreachable

router = Router(prefix="/v1/accounts/{account_id}/quota", tags=["accounts"])


@router.get(
    "",
    operation_id="getQuota",
    responses=problems(LoginRefused, ServerRefused, ServerProtocolError, Unreachable, TimedOut),
)
async def get_quota(account_id: ReadableAccount, caller: CurrentCaller, quotas: QuotasService) -> Quotas:
    """Get the quotas of the account: usage and limits, in bytes and in messages."""
    counted_by, quota_list = await quotas.of(account_id, caller)
    return Quotas(
        counted_by=cast("Literal['origin', 'index']", counted_by), items=[QuotaUse.of(quota) for quota in quota_list]
    )
