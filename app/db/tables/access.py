"""Who may come in, and by what grant we come in elsewhere."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Text
from sqlmodel import Field, SQLModel

from app.db.tables.columns import big, octets, table_of, words


class TokenRow(SQLModel, table=True):
    """A key or token; only the SHA-256 of its secret. JSON lists: None means unlimited."""

    __tablename__ = "token"
    __table_args__ = (Index("token_by_maker", "created_by"), Index("token_by_family", "family"))

    id: str = Field(primary_key=True)
    kind: str
    name: str = Field(sa_column=words())
    secret_hash: str = Field(unique=True)
    scopes: str = Field(sa_column=words())
    account_ids: str | None = Field(sa_column=Column(Text, nullable=True))
    mailbox_ids: str | None = Field(sa_column=Column(Text, nullable=True))
    senders: str | None = Field(sa_column=Column(Text, nullable=True))
    origins: str | None = Field(sa_column=Column(Text, nullable=True))
    networks: str | None = Field(sa_column=Column(Text, nullable=True))
    family: str | None = None
    """The sign-in that a token belongs to, directly or by its maker: all of them end together."""
    sub: str | None = Field(sa_column=Column(Text, nullable=True))
    """The user of an app that the token is for, by the app's own id."""
    is_used: bool = False
    created_by: str | None = None
    """The token that made this one, and with which it ends."""
    created_at_ms: int = Field(sa_column=big())
    expires_at_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class EndedOriginRow(SQLModel, table=True):
    """An origin that a token allowed which was ended: pages of it may still learn that from an answer for a while."""

    __tablename__ = "ended_origin"

    origin: str = Field(primary_key=True)
    ended_at_ms: int = Field(sa_column=big())


class TicketRow(SQLModel, table=True):
    """A stream ticket: one use, short-lived, stands for its token."""

    __tablename__ = "ticket"

    secret_hash: str = Field(primary_key=True)
    token_id: str
    expires_at_ms: int = Field(sa_column=big())


class OAuthAppRow(SQLModel, table=True):
    """A client registered at an authorization server (RFC 6749 §2). `scopes` are separated by spaces."""

    __tablename__ = "oauth_app"

    id: str = Field(primary_key=True)
    provider: str
    name: str = Field(sa_column=words())
    endpoints: str = Field(sa_column=words())
    """JSON: tenant, authorization_url, token_url, issuer, client_auth."""
    scopes: str = Field(sa_column=words())
    client_id: str = Field(sa_column=words())
    secret: bytes | None = Field(sa_column=octets())
    """The client secret, encrypted."""
    servers: str = Field(sa_column=words())
    """JSON: host, port, security of imap, pop3, smtp."""
    redirect_urls: str = Field(sa_column=words())
    """JSON: where a connect session may send a browser back to."""
    created_at_ms: int = Field(sa_column=big())


class OAuthGrantRow(SQLModel, table=True):
    """What an account's owner consented to. `version` grows with each renewal; `lease_until_ms`: someone renews it."""

    __tablename__ = "oauth_grant"
    __table_args__ = (Index("oauth_grant_by_account", "account_id"), Index("oauth_grant_by_app", "oauth_app_id"))

    id: str = Field(primary_key=True)
    oauth_app_id: str
    account_id: str | None = None
    """None as long as its first login is being tried."""
    scopes: str = Field(sa_column=words())
    secrets: bytes = Field(sa_column=octets(nullable=False))
    """Encrypted JSON: refresh_token, access_token."""
    access_expires_at_ms: int = Field(sa_column=big())
    is_over: bool = False
    version: int = Field(sa_column=big())
    lease_until_ms: int = Field(sa_column=big())
    updated_at_ms: int = Field(sa_column=big())


class ConnectSessionRow(SQLModel, table=True):
    """A visit to the hosted page that adds an account. Its secrets are kept as hashes; the PKCE verifier encrypted."""

    __tablename__ = "connect_session"

    id: str = Field(primary_key=True)
    secret_hash: str = Field(unique=True)
    state_hash: str | None = Field(sa_column=Column(Text, nullable=True, unique=True))
    """Of the state parameter that an authorization server is to give back (RFC 6749 §4.1.1)."""
    browser_hash: str | None = Field(sa_column=Column(Text, nullable=True))
    """Of the cookie of the browser that opened the page."""
    verifier: bytes | None = Field(sa_column=octets())
    facts: str = Field(sa_column=words())
    """JSON: email, account_id, oauth_app_id, redirect_url, state, base_url."""
    expires_at_ms: int = Field(sa_column=big())
    """Negative once the session is over: the row stays for a request that is repeated."""


TOKEN = table_of(TokenRow)
ENDED_ORIGIN = table_of(EndedOriginRow)
TICKET = table_of(TicketRow)
OAUTH_APP = table_of(OAuthAppRow)
OAUTH_GRANT = table_of(OAuthGrantRow)
CONNECT_SESSION = table_of(ConnectSessionRow)
