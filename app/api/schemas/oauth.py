"""Schemas of OAuth apps, consents and connect sessions. Secrets are never returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from app.api.schemas.base import LINE_PATTERN, AnswerModel, Id, Integer, PatchModel, RequestModel, Time, time_of
from app.errors import InvalidRequest
from app.mail.identifiers import now_ms
from app.mail.types import AccountKind, TransportSecurity
from app.services.oauth import apps as oauth_apps
from app.services.oauth.authorization import MAX_LIFE_SECONDS
from app.services.oauth.grants import Consent
from app.services.oauth.providers import MailServer
from app.services.sign_in import connecting

LIST_LIMIT = 50
Provider = Literal["google", "microsoft", "yahoo", "custom"]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
ClientAuth = Literal["post", "basic", "none"]
OAuthScope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,300}$")]
"""RFC 6749 §3.3."""
ClientId = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[\x20-\x7e]*$")]


def _printable(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("Must be printable ASCII")
    return secret


Secret = Annotated[SecretStr, Field(min_length=1, max_length=16_000), AfterValidator(_printable)]


def _checked_redirect_url(url: str) -> str:
    if not connecting.is_below(url, url):
        raise ValueError("Must be an absolute URL in ASCII, without a fragment and without steps like ..")
    return url


class ConsentOrder(RequestModel):
    """An OAuth grant that you already have: its app and its refresh token."""

    oauth_app_id: Id | None = None
    provider: Provider | None = Field(None, description="Instead of oauth_app_id: the first app of this provider")
    refresh_token: Secret
    access_token: Secret | None = None
    expires_in_seconds: Annotated[Integer, Field(ge=0, le=MAX_LIFE_SECONDS)] = Field(
        0, description="Lifetime of the access token; 0: renew it before the first login"
    )

    def consent(self, app: oauth_apps.OAuthApp) -> Consent:
        return Consent(
            app.id,
            self.refresh_token.get_secret_value(),
            self.access_token.get_secret_value() if self.access_token else "",
            now_ms() + self.expires_in_seconds * 1000,
        )


class ServerAt(RequestModel):
    """The address of a mail server."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    port: Annotated[Integer, Field(ge=1, le=65535)]
    security: TransportSecurity = TransportSecurity.TLS


class MailServers(RequestModel):
    """The mail servers that an app's tokens are for."""

    imap: ServerAt | None = None
    pop3: ServerAt | None = None
    smtp: ServerAt | None = None

    def servers(self) -> dict[str, MailServer]:
        servers = {"imap": self.imap, "pop3": self.pop3, "smtp": self.smtp}
        return {
            name: MailServer(server.host, server.port, server.security)
            for name, server in servers.items()
            if server is not None
        }

    @classmethod
    def of(cls, servers: Mapping[str, MailServer]) -> MailServers:
        return cls(
            **{
                name: ServerAt(host=server.host, port=server.port, security=server.security)
                for name, server in servers.items()
            }
        )


class _OAuthAppFields(RequestModel):
    name: Annotated[str, StringConstraints(max_length=200, pattern=LINE_PATTERN)] | None = None
    tenant: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="Microsoft: your directory (tenant); default: common"
    )
    authorization_url: Url | None = Field(None, description="Custom apps")
    token_url: Url | None = Field(None, description="Custom apps")
    issuer: Url | None = Field(None, description="Custom apps: the expected `iss`, if the server sends it (RFC 9207)")
    revocation_url: Url | None = Field(
        None, description="Custom apps: the URL that revokes the grant of a deleted account (RFC 7009)"
    )
    client_auth: ClientAuth | None = Field(None, description="Custom apps: how the client secret is sent")
    scopes: list[OAuthScope] | None = Field(None, min_length=1, max_length=LIST_LIMIT)
    client_id: ClientId | None = None
    client_secret: Secret | None = None
    servers: MailServers | None = None
    redirect_urls: list[Annotated[Url, AfterValidator(_checked_redirect_url)]] | None = Field(
        None, max_length=LIST_LIMIT, description="URLs that connect sessions may return to, with all paths below them"
    )

    def order(self) -> oauth_apps.OAuthAppOrder:
        return oauth_apps.OAuthAppOrder(
            name=self.name,
            tenant=self.tenant,
            authorization_url=self.authorization_url,
            token_url=self.token_url,
            issuer=self.issuer,
            revocation_url=self.revocation_url,
            client_auth=self.client_auth,
            scopes=None if self.scopes is None else tuple(self.scopes),
            client_id=self.client_id,
            client_secret=self.client_secret.get_secret_value() if self.client_secret else None,
            servers=None if self.servers is None else self.servers.servers(),
            redirect_urls=None if self.redirect_urls is None else tuple(self.redirect_urls),
        )


class UpdateOAuthApp(PatchModel, _OAuthAppFields):
    """Changes to an OAuth app. Absent fields do not change."""

    CLEARABLE = frozenset({"name", "tenant", "issuer", "revocation_url", "redirect_urls"})

    def order(self) -> oauth_apps.OAuthAppOrder:
        cleared = frozenset(name for name in self.model_fields_set if getattr(self, name) is None)
        order = super().order()
        return replace(
            order,
            name="" if "name" in cleared else self.name,
            redirect_urls=() if "redirect_urls" in cleared else order.redirect_urls,
            cleared=cleared & {"tenant", "issuer", "revocation_url"},
        )


class CreateOAuthApp(_OAuthAppFields):
    """An OAuth app to add: for a known provider, or a custom app with its URLs, scopes and mail servers."""

    provider: Provider
    client_id: ClientId


class OAuthApp(AnswerModel):
    """An app, without its secret."""

    id: str
    provider: Provider
    name: str
    tenant: str | None
    authorization_url: str
    token_url: str
    issuer: str | None
    revocation_url: str | None
    client_auth: ClientAuth
    scopes: list[str]
    client_id: str
    has_client_secret: bool
    servers: MailServers
    redirect_urls: list[str]
    created_at: Time

    @classmethod
    def of(cls, app: oauth_apps.OAuthApp) -> OAuthApp:
        return cls.model_validate(
            {
                "id": app.id,
                "provider": app.provider,
                "name": app.name,
                "tenant": app.tenant,
                "authorization_url": app.endpoints.authorization_url,
                "token_url": app.endpoints.token_url,
                "issuer": app.endpoints.issuer,
                "revocation_url": app.endpoints.revocation_url,
                "client_auth": app.endpoints.client_auth,
                "scopes": list(app.scopes),
                "client_id": app.client_id,
                "has_client_secret": app.client_secret is not None,
                "servers": MailServers.of(app.servers),
                "redirect_urls": list(app.redirect_urls),
                "created_at": time_of(app.created_at_ms),
            }
        )


class CreateConnectSession(RequestModel):
    """A session in which one person adds an account, or renews the consent for one, in a browser."""

    redirect_url: Url = Field(
        description="Where the browser is redirected at the end, with `account_id` or `error`, and `state`"
    )
    email: Annotated[str, StringConstraints(max_length=320)] | None = Field(
        None, description="The address that the page suggests"
    )
    oauth_app_id: Id | None = Field(None, description="Go directly to the provider of this app")
    provider: Provider | None = Field(None, description="Instead of oauth_app_id: the first app of this provider")
    account_id: Id | None = Field(None, description="The account to reconnect; null: add a new one")
    kind: Literal["imap", "pop3"] | None = Field(None, description="The kind of the account to add; null: imap")
    state: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        None, description="Returned in the redirect at the end"
    )

    def order(self) -> connecting.SessionOrder:
        """Return the session to open. Raises InvalidRequest."""
        if self.oauth_app_id is not None and self.provider is not None:
            raise InvalidRequest.at("/provider", "Leave it out: the OAuth app determines the provider")
        if self.account_id is not None and self.kind is not None:
            raise InvalidRequest.at("/kind", "Leave it out: the account determines the kind")
        return connecting.SessionOrder(
            self.redirect_url,
            AccountKind(self.kind or "imap"),
            self.email,
            self.oauth_app_id,
            self.provider,
            self.account_id,
            self.state,
        )


class ConnectSession(AnswerModel):
    """The page to open in the person's browser, once."""

    id: str
    url: str
    expires_at: Time

    @classmethod
    def of(cls, session: connecting.NewSession) -> ConnectSession:
        return cls(id=session.id, url=session.url, expires_at=time_of(session.expires_at_ms))
