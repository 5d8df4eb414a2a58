"""States, cursors and freshness of the account in a route's path."""

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
    """Issues and reads states and cursors of one account."""

    account_id: AccountId
    states: States
    events: Events
    accounts: Accounts

    async def position(self) -> Position:
        """Return the position of the last event. Raises AccountNotFound."""
        return await self.events.position(self.account_id)

    async def state(self) -> str:
        """Return the account's current state. Raises AccountNotFound."""
        return self.at(await self.position())

    def at(self, position: Position, base_seq: int | None = None) -> str:
        """Return the state at a position; `base_seq` as in `States.issue`."""
        return self.states.issue(self.account_id, position, base_seq)

    def since(self, state: str, parameter: str = "since") -> StatePosition:
        """Return the position in a client's state. Raises InvalidRequest."""
        return self.states.since(state, self.account_id, parameter)

    def open_cursor(self, list_name: str, cursor: str) -> Any:
        """Return the content of a cursor of one of this account's lists. Raises InvalidRequest or StateExpired."""
        return self.states.open_cursor(list_name, cursor, self.account_id)

    def seal_cursor(self, list_name: str, place: object) -> str:
        """Return a cursor of one of this account's lists."""
        return self.states.seal_cursor(list_name, self.account_id, place)

    async def sync(self) -> Sync:
        """Return how fresh the account's mail is. Raises AccountNotFound."""
        return Sync.of(await self.accounts.sync(self.account_id))


async def standing_of(connection: HTTPConnection) -> Standing:
    """Return the Standing of the account in the path, which an account dependency has already checked."""
    services = services_of(connection)
    account_id = cast("AccountId", connection.scope[ACCOUNT_KEY])
    return Standing(account_id, services.states, services.events, services.accounts)
