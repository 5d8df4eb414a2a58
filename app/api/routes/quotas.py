"""How full an account is."""

from __future__ import annotations

from typing import Literal, cast

from fastapi import Request

from app.api.deps import CurrentCaller, ReadableAccount, services_of
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.quotas import Quotas, QuotaUse
from app.errors import LoginRefused, ServerProtocolError, ServerRefused, TimedOut, Unreachable

router = Router(prefix="/v1/accounts/{account_id}/quota", tags=["accounts"])


@router.get(
    "",
    operation_id="getQuota",
    responses=problems(LoginRefused, ServerRefused, ServerProtocolError, Unreachable, TimedOut),
)
async def get_quota(request: Request, account_id: ReadableAccount, caller: CurrentCaller) -> Quotas:
    """What the account may hold and what it holds, by bytes and by messages."""
    counted_by, found = await services_of(request).quotas.of(account_id, caller)
    return Quotas(counted_by=cast("Literal['origin', 'index']", counted_by), items=[QuotaUse.of(one) for one in found])
