"""Tokens and sessions of callers, and OAuth apps and grants for mail servers."""

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
    """The sign-in session that a token belongs to, directly or by its creator: all its tokens end together."""
    sub: str | None = Field(sa_column=Column(Text, nullable=True))
    """The app's own id of the user whom the token is for."""
    is_used: bool = False
    created_by: str | None = None
    """The token that created this one, and with which it ends."""
    created_at_ms: int = Field(sa_column=big())
    expires_at_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class EndedOriginRow(SQLModel, table=True):
    """A web origin of a token that has ended: its pages can still read error responses for a while."""

    __tablename__ = "ended_origin"

    origin: str = Field(primary_key=True)
    ended_at_ms: int = Field(sa_column=big())


class TicketRow(SQLModel, table=True):
    """A stream ticket: one use, short-lived, with the rights of its token."""

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
    """JSON: URLs that a connect session may redirect a browser to at its end."""
    created_at_ms: int = Field(sa_column=big())


class OAuthGrantRow(SQLModel, table=True):
    """The grant of an account's owner. `version` grows with each renewal; `lease_until_ms`: a renewal is running."""

    __tablename__ = "oauth_grant"
    __table_args__ = (Index("oauth_grant_by_account", "account_id"), Index("oauth_grant_by_app", "oauth_app_id"))

    id: str = Field(primary_key=True)
    oauth_app_id: str
    account_id: str | None = None
    """None while its first login is being tried."""
    scopes: str = Field(sa_column=words())
    secrets: bytes = Field(sa_column=octets(nullable=False))
    """Encrypted JSON: refresh_token, access_token."""
    access_expires_at_ms: int = Field(sa_column=big())
    is_over: bool = False
    version: int = Field(sa_column=big())
    lease_until_ms: int = Field(sa_column=big())
    updated_at_ms: int = Field(sa_column=big())


class ConnectSessionRow(SQLModel, table=True):
    """A visit to the hosted page that adds an account.

    Its secrets are stored as hashes; the PKCE verifier is encrypted.
    """

    __tablename__ = "connect_session"

    id: str = Field(primary_key=True)
    secret_hash: str = Field(unique=True)
    state_hash: str | None = Field(sa_column=Column(Text, nullable=True, unique=True))
    """The hash of the state parameter that an authorization server returns (RFC 6749 §4.1.1)."""
    browser_hash: str | None = Field(sa_column=Column(Text, nullable=True))
    """The hash of the cookie of the browser that opened the page."""
    verifier: bytes | None = Field(sa_column=octets())
    facts: str = Field(sa_column=words())
    """JSON: email, account_id, oauth_app_id, redirect_url, state, base_url."""
    expires_at_ms: int = Field(sa_column=big())
    """Negative once the session is over: the row stays for repeated requests."""


TOKEN = table_of(TokenRow)
ENDED_ORIGIN = table_of(EndedOriginRow)
TICKET = table_of(TicketRow)
OAUTH_APP = table_of(OAuthAppRow)
OAUTH_GRANT = table_of(OAuthGrantRow)
CONNECT_SESSION = table_of(ConnectSessionRow)
