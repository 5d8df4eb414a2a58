"""How far an account's log has come, as answers say it: states, cursors, and how fresh the mail is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from fastapi.requests import HTTPConnection

from app.api.deps import ACCOUNT_KEY, services_of
from app.api.schemas.base import Sync
from app.mail.types import AccountId, Position
from app.services.accounts.accounts import Accounts
from app.services.following.events import Events
from app.services.following.states import StatePosition, States


@dataclass(frozen=True, slots=True)
class Standing:
    """The account that the path names."""

    account_id: AccountId
    states: States
    events: Events
    accounts: Accounts

    async def position(self) -> Position:
        """The position of the last event. AccountNotFound."""
        return await self.events.position(self.account_id)

    async def state(self) -> str:
        """The account's state now. AccountNotFound."""
        return self.at(await self.position())

    def at(self, position: Position, base_seq: int | None = None) -> str:
        """The state at a position; `base_seq` as in `States.issue`."""
        return self.states.issue(self.account_id, position, base_seq)

    def since(self, state: str, parameter: str = "since") -> StatePosition:
        """What a client's state stands for. InvalidRequest."""
        return self.states.since(state, self.account_id, parameter)

    def open_cursor(self, list_name: str, cursor: str) -> Any:
        """What a cursor of a list of this account carries. InvalidRequest, StateExpired."""
        return self.states.open_cursor(list_name, cursor, self.account_id)

    def seal_cursor(self, list_name: str, place: object) -> str:
        """A cursor of a list of this account."""
        return self.states.seal_cursor(list_name, self.account_id, place)

    async def sync(self) -> Sync:
        """How fresh the account's mail is. AccountNotFound."""
        return Sync.of(await self.accounts.sync(self.account_id))


async def standing_of(connection: HTTPConnection) -> Standing:
    """A dependency of routes whose path names an account, which was checked before."""
    services = services_of(connection)
    account_id = cast("AccountId", connection.scope[ACCOUNT_KEY])
    return Standing(account_id, services.states, services.events, services.accounts)
