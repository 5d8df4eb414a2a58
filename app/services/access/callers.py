"""Who calls, and what they may: the rights that a token stands for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address

import orjson

from app.errors import AccountNotFound, MailboxNotFound, NotPermitted
from app.mail.types import AccountId, TokenId

ME = "me"
"""Stands for the one account of a token, wherever an account id may stand."""


class Scope(StrEnum):
    """A right of a token. Only server keys can have `admin`."""

    MAIL_READ = "mail.read"
    MAIL_MODIFY = "mail.modify"
    MAIL_SEND = "mail.send"
    MAIL_DELETE = "mail.delete"
    MAILBOXES = "mailboxes"
    SETTINGS = "settings"
    PUSH = "push"
    ADMIN = "admin"


ACCOUNT_SCOPES = frozenset(Scope) - {Scope.ADMIN}
"""All that a token for one user's accounts can hold."""


class TokenKind(StrEnum):
    SERVER = "server"
    """A key of a back end: long-lived, may administer."""
    ACCOUNT = "account"
    """A token of a browser or a phone: short-lived, for one user's accounts."""
    REFRESH = "refresh"
    """Buys the next pair of tokens of a session; opens nothing else."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A token that was checked. None in a list of limits means: not limited."""

    token_id: TokenId
    kind: TokenKind
    scopes: frozenset[Scope]
    account_ids: frozenset[str] | None = None
    mailbox_ids: frozenset[str] | None = None
    senders: frozenset[str] | None = None
    """Addresses, in lower case, that it may send from."""
    origins: frozenset[str] | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    expires_at_ms: int | None = None
    family: str | None = None
    """The sign-in that it came from."""
    created_by: str | None = None
    """The token that made it."""
    sub: str | None = None
    """The user of an app that it is for, by the app's own id."""

    def asker(self, account_id: str | None) -> str:
        """Who asks for something of an account (None: of none), whichever of its tokens it uses.

        That is a sign-in, a server key, or a user of the app that has the server key.
        """
        if self.family is not None:
            return f"sign-in {self.family}"
        if self.kind is TokenKind.SERVER or self.created_by is None:
            return f"token {self.token_id}"
        accounts = [account_id] if account_id is not None else sorted(self.account_ids or ())
        return f"user {orjson.dumps([self.created_by, accounts, self.sub]).decode()}"

    @property
    def is_sign_in(self) -> bool:
        """Whether it is a sign-in's own token, not one that a sign-in made."""
        return self.family is not None and self.created_by is None

    @property
    def sees_whole_account(self) -> bool:
        """Whether it is limited neither to mailboxes nor to senders."""
        return self.mailbox_ids is None and self.senders is None

    @property
    def is_limited(self) -> bool:
        """Whether anything of this install is out of its reach: accounts, mailboxes or senders."""
        return self.account_ids is not None or not self.sees_whole_account

    def require_whole_account(self) -> None:
        """Raises NotPermitted for a token that is limited to mailboxes or senders."""
        if not self.sees_whole_account:
            raise NotPermitted("A token limited to mailboxes or senders cannot do this")

    def require_whole_install(self) -> None:
        """Raises NotPermitted for a token that is limited to accounts, mailboxes or senders."""
        if self.is_limited:
            raise NotPermitted("A key limited to accounts, mailboxes or senders cannot do this")

    def require(self, scope: Scope) -> None:
        """Raises NotPermitted without this scope."""
        if scope not in self.scopes:
            raise NotPermitted(f"The token lacks the scope {scope}")

    def account(self, account_id: str) -> AccountId:
        """The id of an account that this caller may use; "me" is the one it has. AccountNotFound for any other."""
        if account_id == ME:
            if self.account_ids is None or len(self.account_ids) != 1:
                raise AccountNotFound
            return AccountId(next(iter(self.account_ids)))
        if self.account_ids is not None and account_id not in self.account_ids:
            raise AccountNotFound
        return AccountId(account_id)

    def sees_mailbox(self, mailbox_id: str) -> bool:
        return self.mailbox_ids is None or mailbox_id in self.mailbox_ids

    def require_mailbox(self, mailbox_id: str) -> None:
        """Raises MailboxNotFound where the caller may not see it, as for one that does not exist."""
        if not self.sees_mailbox(mailbox_id):
            raise MailboxNotFound

    def may_send_as(self, address: str) -> bool:
        return self.senders is None or address.lower() in self.senders

    def may_come_from(self, address: str | None) -> bool:
        """Whether a client's IP address is on the caller's list; an unknown address is on none."""
        if self.networks is None:
            return True
        try:
            ip = ip_address(address or "")
        except ValueError:
            return False
        return any(ip in network for network in self.networks)


OPERATOR = Caller(TokenId("operator"), TokenKind.SERVER, frozenset(Scope))
"""Who runs commands on the data of the install itself: no token, and no limits."""
