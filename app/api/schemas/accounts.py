"""Accounts as callers see and order them. A password goes in and never comes out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from app.api.schemas.base import AnswerModel, Integer, RequestModel, Sync, Time, time_of
from app.errors import InvalidRequest, NotSupported
from app.mail.types import AccountKind, ServerLogin, TransportSecurity
from app.services import accounts
from app.services.accounts import AccountChanges, NewAccount, Servers

Text = Annotated[str, StringConstraints(max_length=1000)]
ShortText = Annotated[str, StringConstraints(max_length=320)]
Username = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""No control characters: it goes to a mail server."""
Host = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Port = Annotated[Integer, Field(ge=1, le=65535)]


def _checked_password(password: SecretStr) -> SecretStr:
    if any(character in "\0\r\n" for character in password.get_secret_value()):
        raise ValueError("A password holds no line end and no NUL")
    return password


Password = Annotated[SecretStr, Field(min_length=1, max_length=1000), AfterValidator(_checked_password)]


class ServerOrder(RequestModel):
    """A mail server and the login for it."""

    host: Host
    port: Port
    security: TransportSecurity = TransportSecurity.TLS
    username: Username
    password: Password

    def login(self) -> ServerLogin:
        return ServerLogin(self.host, self.port, self.security, self.username, self.password.get_secret_value())


class ServerChanges(RequestModel):
    """What to change of a mail server; what is left out stays, but a new host or port needs the password again."""

    host: Host | None = None
    port: Port | None = None
    security: TransportSecurity | None = None
    username: Username | None = None
    password: Password | None = None

    def login(self, known: ServerLogin | None, pointer: str) -> ServerLogin:
        """The known login with these changes. InvalidRequest where something is missing."""
        host, port = self.host or (known and known.host), self.port or (known and known.port)
        username = self.username or (known and known.username)
        security = self.security or (known.security if known else TransportSecurity.TLS)
        is_same = known is not None and (host, port, security) == (known.host, known.port, known.security)
        password = self.password.get_secret_value() if self.password else (known.password if known and is_same else "")
        for name, value in (("host", host), ("port", port), ("username", username), ("password", password)):
            if not value:
                raise InvalidRequest.at(f"{pointer}/{name}", "It is needed here")
        return ServerLogin(str(host), int(port or 0), security, str(username), password)


class Pop3Order(RequestModel):
    """A POP3 server and the login for it."""

    host: Host
    port: Port
    security: TransportSecurity = TransportSecurity.TLS
    username: Username
    password: Password
    retention: ShortText = "keep"


class CreateAccount(RequestModel):
    """An account to add: `imap` and `smtp` for kind imap, `password` for an embedded one."""

    kind: AccountKind
    email: Annotated[str, StringConstraints(min_length=3, max_length=320)]
    name: ShortText = ""
    imap: ServerOrder | None = None
    smtp: ServerOrder | None = None
    pop3: Pop3Order | None = Field(None, description="Not offered yet: 501")
    oauth: dict[str, Any] | None = Field(None, description="Not offered yet: 501")
    password: Password | None = None

    def order(self) -> NewAccount:
        """Raises NotSupported, InvalidRequest for what does not belong to the kind."""
        if self.oauth is not None or self.pop3 is not None or self.kind is AccountKind.POP3:
            raise NotSupported("Accounts over POP3 or by OAuth are not offered by this version")
        is_embedded = self.kind is AccountKind.EMBEDDED
        misplaced = ("imap", "smtp") if is_embedded else ("password",)
        for name in misplaced:
            if getattr(self, name) is not None:
                raise InvalidRequest.at(f"/{name}", f"An account of kind {self.kind} has none")
        return NewAccount(
            self.kind,
            self.email,
            self.name,
            Servers(self.imap.login() if self.imap else None, self.smtp.login() if self.smtp else None),
            self.password.get_secret_value() if self.password else None,
        )


class UpdateAccount(RequestModel):
    """What to change of an account; what is left out stays."""

    name: ShortText | None = None
    imap: ServerChanges | None = None
    smtp: ServerChanges | None = None
    password: Password | None = Field(None, description="Of an embedded account")

    def changes(self, known: Servers) -> AccountChanges:
        """Raises InvalidRequest."""
        servers = None
        if self.imap is not None or self.smtp is not None:
            servers = Servers(
                self.imap.login(known.imap, "/imap") if self.imap else known.imap,
                self.smtp.login(known.smtp, "/smtp") if self.smtp else known.smtp,
            )
        return AccountChanges(self.name, servers, self.password.get_secret_value() if self.password else None)


class Account(AnswerModel):
    """An account."""

    id: str
    email: str
    name: str
    kind: AccountKind
    status: str = Field(description="connecting, syncing, ready, auth_required, unreachable or disabled")
    sync: Sync
    created_at: Time

    @classmethod
    def of(cls, account: accounts.Account) -> Account:
        return cls(
            id=account.id,
            email=account.email,
            name=account.name,
            kind=account.kind,
            status=account.status,
            sync=Sync.of(account.sync),
            created_at=time_of(account.created_at_ms),
        )


class Capabilities(AnswerModel):
    """What the account's mail server confirmed, in its own words (IMAP CAPABILITY)."""

    capabilities: list[str]
