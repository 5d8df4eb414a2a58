"""Schemas of tokens, sessions and tickets."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from app.api.schemas.base import LINE_PATTERN, AnswerModel, Id, Integer, RequestModel, Time, time_of
from app.services.access.callers import Scope, TokenKind
from app.services.access.tokens import TokenOrder, TokenRecord
from app.services.sign_in.sessions import SignedIn

_ORIGIN = re.compile(r"https?://[A-Za-z0-9._\-\[\]:]{1,253}|[a-z][a-z0-9+.-]{1,30}://[A-Za-z0-9._-]{1,200}")
LIST_LIMIT = 100
TEN_YEARS_SECONDS = 10 * 366 * 24 * 3600


def _checked_origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("An origin is a scheme, a host and an optional port, without a path")
    return origin


def _checked_network(network: str) -> str:
    try:
        return str(ip_network(network, strict=False))
    except ValueError:
        raise ValueError("Invalid IP address or network") from None


Origin = Annotated[str, StringConstraints(max_length=300), AfterValidator(_checked_origin)]
Network = Annotated[str, StringConstraints(max_length=60), AfterValidator(_checked_network)]

Sender = Annotated[str, StringConstraints(max_length=320, pattern=LINE_PATTERN)]


class CreateToken(RequestModel):
    """A token to create. A field that is null sets no limit."""

    kind: Literal[TokenKind.ACCOUNT, TokenKind.SERVER] = TokenKind.ACCOUNT
    name: Annotated[str, StringConstraints(max_length=200, pattern=LINE_PATTERN)] = ""
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    account_ids: list[Id] | None = Field(None, min_length=1, max_length=LIST_LIMIT)
    mailbox_ids: list[Id] | None = Field(None, max_length=LIST_LIMIT)
    senders: list[Sender] | None = Field(None, max_length=LIST_LIMIT)
    origins: list[Origin] | None = Field(None, max_length=LIST_LIMIT)
    networks: list[Network] | None = Field(None, max_length=LIST_LIMIT, description="IP addresses or CIDRs")
    expires_in_seconds: Annotated[Integer, Field(ge=1, le=TEN_YEARS_SECONDS)] | None = Field(
        None, description="Default 900 and at most 86400 for an account token; a server key may have none"
    )

    sub: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=LINE_PATTERN)] | None = Field(
        None,
        description=(
            "The user of your app that the token is for, by your own id. Tokens of one user of an account share their "
            "Idempotency-Keys, so that a request can be repeated with a new token"
        ),
    )

    def order(self) -> TokenOrder:
        return TokenOrder(
            TokenKind(self.kind),
            frozenset(self.scopes),
            self.name,
            _tuple(self.account_ids),
            _tuple(self.mailbox_ids),
            _tuple(self.senders),
            _tuple(self.origins),
            _tuple(self.networks),
            self.expires_in_seconds,
            sub=self.sub,
        )


class Token(AnswerModel):
    """A token, without its secret."""

    id: str
    kind: TokenKind
    name: str
    scopes: list[Scope]
    account_ids: list[str] | None
    mailbox_ids: list[str] | None
    senders: list[str] | None
    origins: list[str] | None
    networks: list[str] | None
    sub: str | None
    created_at: Time
    expires_at: Time | None

    @classmethod
    def of(cls, record: TokenRecord) -> Token:
        return cls.model_validate(_facts(record))


class NewToken(Token):
    """A new token, with its secret. The secret is shown only once."""

    token: str

    @classmethod
    def with_secret(cls, record: TokenRecord, secret: str) -> NewToken:
        return cls.model_validate({**_facts(record), "token": secret})


class SignIn(RequestModel):
    """A mailbox's address and password."""

    email: Annotated[str, StringConstraints(min_length=3, max_length=320)]
    password: SecretStr = Field(min_length=1, max_length=1000)


class Refresh(RequestModel):
    """The refresh token of a session; it works once."""

    refresh_token: SecretStr = Field(min_length=1, max_length=200)


class Session(AnswerModel):
    """A sign-in: both tokens are shown once."""

    access_token: str
    expires_in: int = Field(description="Seconds")
    refresh_token: str
    account_id: str

    @classmethod
    def of(cls, pair: SignedIn) -> Session:
        return cls(
            access_token=pair.access_token,
            expires_in=pair.expires_in_seconds,
            refresh_token=pair.refresh_token,
            account_id=pair.account_id,
        )


class CreateTicket(RequestModel):
    """An empty object. A ticket has the rights of its token."""


class Ticket(AnswerModel):
    """Opens the stream once: `/v1/stream?ticket=…`"""

    ticket: str
    expires_in: int = Field(description="Seconds")


def _tuple(items: list[str] | None) -> tuple[str, ...] | None:
    return None if items is None else tuple(items)


def _sorted(items: frozenset[str] | None) -> list[str] | None:
    return None if items is None else sorted(items)


def _facts(record: TokenRecord) -> dict[str, object]:
    caller = record.caller
    return {
        "id": record.id,
        "kind": caller.kind,
        "name": record.name,
        "scopes": sorted(caller.scopes),
        "account_ids": _sorted(caller.account_ids),
        "mailbox_ids": _sorted(caller.mailbox_ids),
        "senders": _sorted(caller.senders),
        "origins": _sorted(caller.origins),
        "networks": None if caller.networks is None else [str(network) for network in caller.networks],
        "sub": caller.sub,
        "created_at": time_of(record.created_at_ms),
        "expires_at": None if caller.expires_at_ms is None else time_of(caller.expires_at_ms),
    }
