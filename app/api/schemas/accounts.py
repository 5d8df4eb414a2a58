"""Schemas of accounts. Passwords are never returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from app.api.schemas.base import (
    LINE_PATTERN,
    AnswerModel,
    Boolean,
    Integer,
    MetadataInput,
    MetadataKey,
    MetadataOutput,
    MetadataValue,
    PatchModel,
    RequestModel,
    Time,
    time_of,
)
from app.api.schemas.incomplete import AccountSync
from app.api.schemas.oauth import ConsentOrder
from app.errors import InvalidRequest
from app.mail.metadata import KEYS_LIMIT
from app.mail.pop3 import KEEP_ALL, Pop3Rules, Retention
from app.mail.types import AccountKind, ServerLogin, TransportSecurity
from app.services.accounts import accounts
from app.services.accounts.accounts import AccountChanges, NewAccount, Servers
from app.services.accounts.rows import ServerInUse, servers_at
from app.services.oauth.apps import OAuthApp
from app.services.sign_in.passwords import PasswordChange

Text = Annotated[str, StringConstraints(max_length=1000)]
ShortText = Annotated[str, StringConstraints(max_length=320, pattern=LINE_PATTERN)]
Username = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""It has no control characters, because Postgate sends it to a mail server."""
Host = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Port = Annotated[Integer, Field(ge=1, le=65535)]


def _checked_password(password: SecretStr) -> SecretStr:
    if any(character in "\0\r\n" for character in password.get_secret_value()):
        raise ValueError("A password must not contain line ends or NUL")
    return password


Password = Annotated[SecretStr, Field(min_length=1, max_length=1000), AfterValidator(_checked_password)]


class ServerOrder(RequestModel):
    """A mail server and its login. With `oauth` no password is needed."""

    host: Host
    port: Port
    security: TransportSecurity = TransportSecurity.TLS
    username: Username
    password: Password | None = None

    def login(self, pointer: str, *, has_consent: bool = False) -> ServerLogin:
        """Return the login. Raises InvalidRequest without a password or consent."""
        if self.password is None and not has_consent:
            raise InvalidRequest.at(f"{pointer}/password", "Required")
        password = self.password.get_secret_value() if self.password else ""
        return ServerLogin(self.host, self.port, self.security, self.username, password)


class ServerChanges(PatchModel):
    """Changes to a mail server. Absent fields do not change, but a new host or port requires the password again."""

    host: Host | None = None
    port: Port | None = None
    security: TransportSecurity | None = None
    username: Username | None = None
    password: Password | None = None

    def login(self, known: ServerLogin | None, pointer: str, *, has_consent: bool = False) -> ServerLogin:
        """Return the known login with these changes. Raises InvalidRequest if a required field is missing."""
        host, port = self.host or (known and known.host), self.port or (known and known.port)
        username = self.username or (known and known.username)
        security = self.security or (known.security if known else TransportSecurity.TLS)
        is_same = known is not None and (host, port, security) == (known.host, known.port, known.security)
        password = self.password.get_secret_value() if self.password else (known.password if known and is_same else "")
        tokens = known.tokens if known and is_same and not password else None
        proof = password or tokens or has_consent
        for name, value in (("host", host), ("port", port), ("username", username), ("password", proof)):
            if not value:
                raise InvalidRequest.at(f"{pointer}/{name}", "Required")
        return ServerLogin(str(host), int(port or 0), security, str(username), password, tokens)


def _checked_retention(text: str) -> str:
    return str(Retention.parse(text))


RetentionText = Annotated[
    str,
    StringConstraints(max_length=40),
    AfterValidator(_checked_retention),
    Field(
        description="What stays on the server: keep, keep_days:N, keep_last:N, mirror_delete or remove_after_download"
    ),
]
Mirror = Annotated[
    Boolean, Field(description="Also delete messages from Postgate that another client removes from the server")
]


class Pop3Order(ServerOrder):
    """A POP3 server, its login, and the retention rule."""

    retention: RetentionText = "keep"
    mirror: Mirror = False

    def rules(self) -> Pop3Rules:
        return Pop3Rules(Retention.parse(self.retention), self.mirror)


class Pop3Changes(ServerChanges):
    """Changes to a POP3 server. Absent fields do not change."""

    retention: RetentionText | None = None
    mirror: Mirror | None = None

    def rules(self, known: Pop3Rules) -> Pop3Rules:
        retention = known.retention if self.retention is None else Retention.parse(self.retention)
        return Pop3Rules(retention, known.is_mirror if self.mirror is None else self.mirror)


_MISPLACED = {
    AccountKind.IMAP: ("pop3", "password"),
    AccountKind.POP3: ("imap", "password"),
    AccountKind.EMBEDDED: ("imap", "pop3", "smtp", "oauth"),
}


class CreateAccount(RequestModel):
    """An account to add: `imap` or `pop3`, and `smtp`, depending on its kind; `password` for an embedded account."""

    kind: AccountKind
    email: Annotated[str, StringConstraints(min_length=3, max_length=320)]
    name: ShortText = ""
    imap: ServerOrder | None = None
    smtp: ServerOrder | None = None
    pop3: Pop3Order | None = None
    oauth: ConsentOrder | None = Field(
        None,
        description="Use access tokens on every server without a password; sets the servers if none are given",
    )
    password: Password | None = None
    metadata: MetadataInput = Field(default_factory=dict)

    def order(self, app: OAuthApp | None = None) -> NewAccount:
        """Return the account to add. `app` is the OAuth app that `oauth` names.

        Raises NotSupported, or InvalidRequest for fields that the kind does not have.
        """
        for name in _MISPLACED[self.kind]:
            if getattr(self, name) is not None:
                raise InvalidRequest.at(f"/{name}", f"An account of kind {self.kind} does not take this field")
        return NewAccount(
            self.kind,
            self.email,
            self.name,
            self._servers(app),
            self.password.get_secret_value() if self.password else None,
            self.oauth.consent(app) if self.oauth and app else None,
            self.metadata,
        )

    def _servers(self, app: OAuthApp | None) -> Servers:
        """Return the servers of the request, or the app's servers if it has none."""
        if app is not None and self.imap is None and self.smtp is None and self.pop3 is None:
            return servers_at(app.servers, self.kind, self.email)
        servers_by_name = {"imap": self.imap, "smtp": self.smtp, "pop3": self.pop3}
        logins = {
            name: server.login(f"/{name}", has_consent=app is not None)
            for name, server in servers_by_name.items()
            if server
        }
        if app is not None and all(server_login.password for server_login in logins.values()):
            raise InvalidRequest.at("/oauth", "No server would use it: all of them have a password")
        return Servers.of(logins, self.pop3.rules() if self.pop3 else KEEP_ALL)


class UpdateAccount(PatchModel):
    """Changes to an account. Absent fields do not change. All but the name and the POP3 retention requires the scope
    `admin`.
    """

    CLEARABLE = frozenset({"name", "metadata"})

    name: ShortText | None = None
    imap: ServerChanges | None = None
    smtp: ServerChanges | None = None
    pop3: Pop3Changes | None = None
    oauth: ConsentOrder | None = Field(None, description="A new OAuth grant, for the servers that use it")
    password: Password | None = Field(None, description="The password of an embedded account")
    metadata: Annotated[dict[MetadataKey, MetadataValue | None], Field(max_length=KEYS_LIMIT)] | None = Field(
        None, description="Keys to set; `null` removes a key, and `null` for `metadata` removes all"
    )

    @property
    def needs_admin(self) -> bool:
        """Whether it changes the servers, logins, password or metadata."""
        is_pop3_login = self.pop3 is not None and not self.pop3.model_fields_set <= {"retention", "mirror"}
        return (
            is_pop3_login
            or "metadata" in self.model_fields_set
            or any(item is not None for item in (self.imap, self.smtp, self.oauth, self.password))
        )

    def changes(self, known: Servers, app: OAuthApp | None = None) -> AccountChanges:
        """Return the changes. `app` is the OAuth app that `oauth` names. Raises InvalidRequest."""
        servers = None
        has_consent = app is not None
        if has_consent and known.grant_id is None:
            known = known.without_passwords()
        servers_by_name = {"imap": self.imap, "smtp": self.smtp, "pop3": self.pop3}
        logins = {
            name: changed.login(known.logins.get(name), f"/{name}", has_consent=has_consent)
            for name, changed in servers_by_name.items()
            if changed
        }
        if has_consent or logins:
            servers = Servers.of(known.logins | logins, self.pop3.rules(known.rules) if self.pop3 else known.rules)
        password = self.password.get_secret_value() if self.password else None
        name = "" if self.name is None and "name" in self.model_fields_set else self.name
        return AccountChanges(
            name,
            servers,
            password,
            self.oauth.consent(app) if self.oauth and app else None,
            self.metadata or {},
            is_metadata_cleared=self.metadata is None and "metadata" in self.model_fields_set,
        )


class ChangePassword(RequestModel):
    """A change of an account's password by its owner. Every other sign-in ends."""

    old_password: Password
    new_password: Password
    revoke_tokens: Boolean = Field(False, description="Also end the tokens that server keys created for the account")

    def change(self) -> PasswordChange:
        old, new = self.old_password.get_secret_value(), self.new_password.get_secret_value()
        return PasswordChange(old, new, self.revoke_tokens)


class Server(AnswerModel):
    """A mail server of an account, without its secret."""

    host: str
    port: int
    security: TransportSecurity
    username: str
    auth: Literal["password", "oauth"] = Field(description="How Postgate logs in")

    @classmethod
    def of(cls, server: ServerInUse) -> Server:
        return cls.model_validate(_facts(server))


class Pop3Server(Server):
    """A POP3 server and its retention rule."""

    retention: str = Field(description="keep, keep_days:N, keep_last:N, mirror_delete or remove_after_download")
    mirror: bool = Field(description="Also delete messages from Postgate that another client removes from the server")

    @classmethod
    def with_rules(cls, server: ServerInUse, rules: Pop3Rules) -> Pop3Server:
        return cls.model_validate(_facts(server) | {"retention": str(rules.retention), "mirror": rules.is_mirror})


def _facts(server: ServerInUse) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "security": server.security,
        "username": server.username,
        "auth": "oauth" if server.is_by_consent else "password",
    }


class Account(AnswerModel):
    """An account. `imap`, `pop3`, `smtp` are its mail servers, without secrets; null where not used."""

    id: str = Field(description="The id of the account")
    email: str = Field(description="Its e-mail address")
    name: str = Field(description="The name of the owner; empty if not set")
    kind: AccountKind = Field(description="How the mail is reached")
    status: Literal["connecting", "syncing", "ready", "auth_required", "unreachable", "disabled"] = Field(
        description="`connecting`: opening the first connection; `syncing`: the initial sync is running; `ready`; "
        "`auth_required`: the mail server refused the login; `unreachable`: it does not answer; `disabled`"
    )
    sync: AccountSync = Field(description="How fresh its mail is, and what could not be read")
    imap: Server | None = Field(description="The IMAP server")
    pop3: Pop3Server | None = Field(description="The POP3 server")
    smtp: Server | None = Field(description="The server that sends")
    created_at: Time = Field(description="When the account was added")
    metadata: MetadataOutput

    @classmethod
    def of(cls, account: accounts.Account, incomplete: Sequence[accounts.IncompleteMailbox] = ()) -> Account:
        """Return an Account. `incomplete`: what could not be read and the caller can see."""
        imap, pop3, smtp = (account.servers.get(name) for name in ("imap", "pop3", "smtp"))
        return cls.model_validate(
            {
                "id": account.id,
                "email": account.email,
                "name": account.name,
                "kind": account.kind,
                "status": account.status,
                "sync": AccountSync.with_incomplete(account.sync, incomplete),
                "imap": Server.of(imap) if imap else None,
                "pop3": Pop3Server.with_rules(pop3, account.rules) if pop3 else None,
                "smtp": Server.of(smtp) if smtp else None,
                "created_at": time_of(account.created_at_ms),
                "metadata": dict(account.metadata),
            }
        )


class ServerCapabilities(AnswerModel):
    """The capabilities of the account's mail server, as it names them (IMAP CAPABILITY)."""

    capabilities: list[str]
