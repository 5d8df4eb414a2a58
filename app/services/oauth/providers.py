"""Presets of mail providers: their authorization servers and mail servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.errors import InvalidRequest
from app.mail.types import TransportSecurity

CUSTOM = "custom"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server of the provider, the same for all accounts."""

    host: str
    port: int
    security: TransportSecurity = TransportSecurity.TLS


@dataclass(frozen=True, slots=True)
class Endpoints:
    """An authorization server (RFC 6749 §3). `issuer` None: the issuer in its responses is not checked (RFC 9207).

    `client_auth` is how the client authenticates: post, basic, or none without a secret. `revocation_url` None: the
    server has no such endpoint (RFC 7009).
    """

    authorization_url: str
    token_url: str
    issuer: str | None = None
    client_auth: str = "post"
    revocation_url: str | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A preset. URLs may contain `{tenant}`. `consent`: what the authorization request needs for a refresh token."""

    name: str
    title: str
    endpoints: Endpoints
    scopes: tuple[str, ...]
    servers: Mapping[str, MailServer]
    consent: Mapping[str, str] = field(default_factory=dict)


GOOGLE = Provider(
    "google",
    "Google",
    Endpoints(
        "https://accounts.google.com/o/oauth2/v2/auth",
        "https://oauth2.googleapis.com/token",
        "https://accounts.google.com",
        revocation_url="https://oauth2.googleapis.com/revoke",
    ),
    ("https://mail.google.com/", "openid", "email"),
    {
        "imap": MailServer("imap.gmail.com", 993),
        "pop3": MailServer("pop.gmail.com", 995),
        "smtp": MailServer("smtp.gmail.com", 465),
    },
    {"access_type": "offline", "prompt": "consent"},
)
MICROSOFT = Provider(
    "microsoft",
    "Microsoft",
    Endpoints(
        "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
        "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
    ),
    (
        "https://outlook.office.com/IMAP.AccessAsUser.All",
        "https://outlook.office.com/POP.AccessAsUser.All",
        "https://outlook.office.com/SMTP.Send",
        "offline_access",
        "openid",
        "email",
    ),
    {
        "imap": MailServer("outlook.office365.com", 993),
        "pop3": MailServer("outlook.office365.com", 995),
        "smtp": MailServer("smtp.office365.com", 587, TransportSecurity.STARTTLS),
    },
)
YAHOO = Provider(
    "yahoo",
    "Yahoo",
    Endpoints(
        "https://api.login.yahoo.com/oauth2/request_auth",
        "https://api.login.yahoo.com/oauth2/get_token",
        "https://api.login.yahoo.com",
        "basic",
        "https://api.login.yahoo.com/oauth2/revoke",
    ),
    ("mail-w", "openid", "email"),
    {
        "imap": MailServer("imap.mail.yahoo.com", 993),
        "pop3": MailServer("pop.mail.yahoo.com", 995),
        "smtp": MailServer("smtp.mail.yahoo.com", 465),
    },
)
PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in (GOOGLE, MICROSOFT, YAHOO)}


def endpoints_of(provider: Provider, tenant: str | None) -> Endpoints:
    """Return a provider's endpoints; `tenant` for those with tenants, by default "common". Raises InvalidRequest."""
    known = provider.endpoints
    has_tenants = "{tenant}" in known.token_url
    if tenant is not None and not (has_tenants and _TENANT.fullmatch(tenant)):
        raise InvalidRequest.at("/tenant", "Invalid tenant for this provider")
    name = tenant or "common"
    issuer = known.issuer
    if has_tenants and re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", name):
        issuer = f"https://login.microsoftonline.com/{name.lower()}/v2.0"
    return replace(
        known,
        authorization_url=known.authorization_url.format(tenant=name),
        token_url=known.token_url.format(tenant=name),
        issuer=issuer,
    )
