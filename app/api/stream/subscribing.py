"""Handles `subscribe`, `unsubscribe` and `ack` frames, checked against the caller's rights."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from app.api.deps import Services
from app.api.problems import parameters_in_body
from app.api.schemas.incomplete import AccountSync
from app.api.schemas.stream import AckFrame, SubscribedFrame, SubscribeFrame, UnsubscribeFrame
from app.api.stream.following import Following
from app.api.stream.refusals import ROLES, check_names
from app.api.stream.socket import CloseCode, StreamClosed, StreamSocket
from app.errors import AccountNotFound, InvalidRequest, MailboxNotFound
from app.mail.types import AccountId, Position
from app.services.access.callers import Caller
from app.services.following.subscriptions import Subscription

SUBSCRIPTIONS_LIMIT = 100


class Subscribing:
    """Handles the subscription frames of one stream."""

    def __init__(self, socket: StreamSocket, services: Services, following: Following) -> None:
        self._socket = socket
        self._services = services
        self._following = following

    async def subscribe(self, frame: SubscribeFrame, caller: Caller) -> None:
        """Send `subscribed` with the first cursors, and serve the subscription.

        Raises InvalidRequest, AccountNotFound or MailboxNotFound, each with a pointer into the frame, or StateExpired.
        """
        if len(self._following.subscriptions) >= SUBSCRIPTIONS_LIMIT:
            raise StreamClosed(CloseCode.TOO_MANY, "too many subscriptions")
        check_names(frame)
        account_ids = await self._accounts_of(frame, caller)
        mailbox_ids, roles = _mailboxes_and_roles(frame)
        await self._check_mailboxes(frame, mailbox_ids or (), account_ids, caller)
        begin = {account_id: await self._position(frame, account_id, caller) for account_id in account_ids}
        subscription = Subscription(
            frame.sub_id,
            frame.accounts == "*",
            dict(begin),
            mailbox_ids,
            roles,
            frozenset(frame.types) if frame.types is not None else None,
            frame.view,
            frame.consumer,
        )
        cursors = {
            account_id: self._services.states.issue(account_id, position) for account_id, position in begin.items()
        }
        accounts = self._services.accounts
        incomplete = await accounts.incomplete(account_ids, caller)
        sync = {
            account_id: AccountSync.with_incomplete(await accounts.sync(account_id), incomplete.get(account_id, ()))
            for account_id in account_ids
        }
        await self._socket.send(SubscribedFrame(sub_id=frame.sub_id, cursor=cursors, state=cursors, sync=sync))
        await self._following.add(subscription)

    def unsubscribe(self, frame: UnsubscribeFrame) -> None:
        self._following.remove(frame.sub_id)

    async def acknowledge(self, frame: AckFrame, caller: Caller) -> None:
        """Store a consumer's position. Raises InvalidRequest if the cursor's account or consumer is ambiguous."""
        followed = self._following.positions()
        account_id = frame.account_id or (next(iter(followed)) if len(followed) == 1 else None)
        if account_id is None or account_id not in followed:
            raise InvalidRequest.at("/account_id", "Give the account that the cursor belongs to")
        with parameters_in_body():
            position = self._services.states.read(frame.cursor, AccountId(account_id), "cursor")
        name = self._consumer_of(frame, AccountId(account_id))
        if name is not None:
            await self._services.consumers.acknowledge(AccountId(account_id), caller, name, position.seq)

    async def _check_mailboxes(
        self, frame: SubscribeFrame, mailbox_ids: Collection[str], account_ids: list[AccountId], caller: Caller
    ) -> None:
        """Raise MailboxNotFound unless each of `mailboxes` is the id or role of a mailbox that the caller can see."""
        events = self._services.events
        known = {
            mailbox.id
            for account_id in account_ids
            for mailbox in await events.mailboxes(account_id, caller, mailbox_ids)
        }
        for number, name in enumerate(frame.mailboxes if isinstance(frame.mailboxes, list) else ()):
            if name in mailbox_ids:
                error = None if name in known and caller.sees_mailbox(name) else MailboxNotFound()
            else:
                has_role = not account_ids or await self._has_role(name, account_ids, caller)
                error = None if has_role else MailboxNotFound(f"No mailbox has the role {name}")
            if error is not None:
                raise error.pointing_at(f"/mailboxes/{number}")

    async def _has_role(self, role: str, account_ids: list[AccountId], caller: Caller) -> bool:
        for account_id in account_ids:
            with suppress(MailboxNotFound):
                await self._services.mailboxes.id_of(account_id, caller, role)
                return True
        return False

    async def _accounts_of(self, frame: SubscribeFrame, caller: Caller) -> list[AccountId]:
        visible = await self._services.accounts.visible_ids(caller)
        if frame.accounts == "*":
            return list(visible)
        account_ids: dict[AccountId, None] = {}
        for number, name in enumerate(frame.accounts):
            try:
                account_id = caller.account(name)
            except AccountNotFound as error:
                raise error.pointing_at(f"/accounts/{number}") from None
            if account_id not in visible:
                raise AccountNotFound().pointing_at(f"/accounts/{number}")
            account_ids[account_id] = None
        return list(account_ids)

    async def _position(self, frame: SubscribeFrame, account_id: AccountId, caller: Caller) -> Position:
        """Return the position after which a subscription begins."""
        after = frame.after.get(account_id) if isinstance(frame.after, dict) else frame.after
        events = self._services.events
        if after is None and frame.consumer is not None:
            place = await self._services.consumers.place(account_id, caller, frame.consumer)
            return await (events.position(account_id) if place is None else events.place(account_id, place))
        if after is None or after == "now":
            return await events.position(account_id)
        if after == "earliest":
            return await events.earliest(account_id)
        name = f"after/{account_id}" if isinstance(frame.after, dict) else "after"
        with parameters_in_body():
            return self._services.states.read(after, account_id, name)

    def _consumer_of(self, frame: AckFrame, account_id: AccountId) -> str | None:
        """Return the consumer that an acknowledgement is for; None if its subscription has no consumer."""
        following = [
            subscription
            for subscription in self._following.subscriptions.values()
            if account_id in subscription.positions
        ]
        if frame.sub_id is not None:
            following = [subscription for subscription in following if subscription.id == frame.sub_id]
            if not following:
                raise InvalidRequest.at("/sub_id", "No subscription with this id follows the account")
        names = {subscription.consumer for subscription in following if subscription.consumer is not None}
        if len(names) > 1:
            raise InvalidRequest.at("/sub_id", "Give the subscription: several with a consumer follow the account")
        return next(iter(names), None)


def _mailboxes_and_roles(frame: SubscribeFrame) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Return the mailbox ids (None: all) and the roles, which `mailboxes` may also contain."""
    names = frame.mailboxes if isinstance(frame.mailboxes, list) else []
    roles = frozenset(frame.roles or ()) | {name for name in names if name in ROLES}
    if not isinstance(frame.mailboxes, list):
        return None, roles
    return frozenset(names) - roles, roles
