"""Finding the mail servers of an address, for whoever adds accounts."""

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
    """The mail servers of an address, from all that tell of them, within 8 s. It is for those who may add accounts.

    What is found is a proposal: add the account, which tries the login, and let its owner see the names of the hosts.
    """
    try:
        return Autoconfig.of(await autoconfig.find(email))
    except InvalidRequest as error:
        raise InvalidRequest.parameter("email", error.detail) from None
