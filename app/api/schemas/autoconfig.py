"""Schemas of autoconfig."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import AnswerModel
from app.mail.offers import Auth, Offer, Protocol
from app.mail.types import TransportSecurity
from app.services.accounts.autoconfig import FoundServers


class OfferedServer(AnswerModel):
    """A mail server. `username` is the login name; null if unknown."""

    host: str
    port: int
    security: TransportSecurity
    username: str | None
    auth: list[Auth]

    @classmethod
    def of(cls, offer: Offer) -> OfferedServer:
        return cls(
            host=offer.host,
            port=offer.port,
            security=offer.security,
            username=offer.username,
            auth=list(offer.auth),
        )


class Autoconfig(AnswerModel):
    """The mail servers of an address, the best first. A list is empty if nothing was found."""

    email: str
    domain: str
    provider: str | None = Field(description="google, microsoft, yahoo, icloud, fastmail …; null for others")
    source: str | None = Field(
        description="builtin, autoconfig, well-known, ispdb, srv, autodiscover, mx or guess; null if nothing was found"
    )
    oauth: str | None = Field(
        description="The provider whose OAuth tokens the servers accept: google, microsoft or yahoo"
    )
    imap: list[OfferedServer]
    pop3: list[OfferedServer]
    smtp: list[OfferedServer]

    @classmethod
    def of(cls, result: FoundServers) -> Autoconfig:
        servers = {protocol: [OfferedServer.of(offer) for offer in result.of(protocol)] for protocol in Protocol}
        return cls(
            email=result.email,
            domain=result.domain,
            provider=result.provider,
            source=result.source,
            oauth=result.oauth,
            imap=servers[Protocol.IMAP],
            pop3=servers[Protocol.POP3],
            smtp=servers[Protocol.SMTP],
        )
