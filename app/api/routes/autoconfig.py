"""Autoconfig: finds the mail servers of an address, for callers that add accounts."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from app.api.deps import AdminCaller
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.autoconfig import Autoconfig
from app.api.services import AutoconfigService
from app.errors import InvalidRequest, RateLimited
from app.mime.validate import MAX_ADDRESS_CHARS

router = Router(prefix="/v1/autoconfig", tags=["accounts"])
Email = Annotated[
    str, Query(min_length=3, max_length=MAX_ADDRESS_CHARS, description="The address, as `me@example.com`")
]


@router.get("", operation_id="getAutoconfig", responses=problems(InvalidRequest, RateLimited))
async def get_autoconfig(_caller: AdminCaller, email: Email, autoconfig: AutoconfigService) -> Autoconfig:
    """Find the mail servers of an address, from all sources, within 8 s. Requires the right to add accounts.

    The result is a proposal. Show the host names to the owner of the account; adding the account tests the login.
    """
    try:
        return Autoconfig.of(await autoconfig.find(email))
    except InvalidRequest as error:
        raise InvalidRequest.parameter("email", error.detail) from None
