"""Callers and their rights, as their tokens grant them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address

import orjson

from app.errors import AccountNotFound, MailboxNotFound, NotPermitted
from app.mail.types import AccountId, TokenId

ME = "me"
"""In place of an account id: the only account of the token."""


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
"""All scopes that an account token can have."""


class TokenKind(StrEnum):
    SERVER = "server"
    """A key of a back end: long-lived, with optional admin rights."""
    ACCOUNT = "account"
    """A token of a browser or a phone: short-lived, for one user's accounts."""
    REFRESH = "refresh"
    """Exchanged for the next pair of tokens of a session; has no other use."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated token. A list of limits that is None means: not limited."""

    token_id: TokenId
    kind: TokenKind
    scopes: frozenset[Scope]
    account_ids: frozenset[str] | None = None
    mailbox_ids: frozenset[str] | None = None
    senders: frozenset[str] | None = None
    """Addresses, in lower case, that the token may send from."""
    origins: frozenset[str] | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] | None = None
    expires_at_ms: int | None = None
    family: str | None = None
    """The sign-in session that the token belongs to."""
    created_by: str | None = None
    """The token that created it."""
    sub: str | None = None
    """The app's own id of the user whom the token is for."""

    def asker(self, account_id: str | None) -> str:
        """Identify who makes a request for an account (None: for no account), regardless of which token is used.

        This is a sign-in session, a server key, or a user of the app that has the server key.
        """
        if self.family is not None:
            return f"sign-in {self.family}"
        if self.kind is TokenKind.SERVER or self.created_by is None:
            return f"token {self.token_id}"
        accounts = [account_id] if account_id is not None else sorted(self.account_ids or ())
        return f"user {orjson.dumps([self.created_by, accounts, self.sub]).decode()}"

    @property
    def is_sign_in(self) -> bool:
        """Whether this is a sign-in session's own token, not one that the session created."""
        return self.family is not None and self.created_by is None

    @property
    def sees_whole_account(self) -> bool:
        """Whether it is limited neither to mailboxes nor to senders."""
        return self.mailbox_ids is None and self.senders is None

    @property
    def is_limited(self) -> bool:
        """Whether it is limited to some accounts, mailboxes or senders."""
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
        """Return the id of an account that this caller may use; "me" is its only one. Raises AccountNotFound."""
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
        """Raises MailboxNotFound if the caller may not see it, as for a mailbox that does not exist."""
        if not self.sees_mailbox(mailbox_id):
            raise MailboxNotFound

    def may_send_as(self, address: str) -> bool:
        return self.senders is None or address.lower() in self.senders

    def may_come_from(self, address: str | None) -> bool:
        """Whether a client's IP address is in the caller's networks; an unknown address is in none."""
        if self.networks is None:
            return True
        try:
            ip = ip_address(address or "")
        except ValueError:
            return False
        return any(ip in network for network in self.networks)


OPERATOR = Caller(TokenId("operator"), TokenKind.SERVER, frozenset(Scope))
"""The caller of commands on the installation's own data: no token, and no limits."""
