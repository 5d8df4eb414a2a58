"""An account and its row: servers as JSON without passwords, and the passwords encrypted beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

from app.db.directory import StoredAccount, StoredSync
from app.mail.backend import SyncMode
from app.mail.identifiers import now_ms
from app.mail.metadata import Metadata, MetadataChanges, metadata_of
from app.mail.pop3 import KEEP_ALL, Pop3Rules, Retention
from app.mail.storable import json_bytes
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.security.vault import Vault
from app.services.oauth.grants import Consent, GrantTokens
from app.services.oauth.providers import MailServer


@dataclass(frozen=True, slots=True)
class SyncState:
    """How fresh the index of an account is. `status`: initial, live, down or paused."""

    status: str
    mode: SyncMode
    checked_at_ms: int

    @property
    def lag_seconds(self) -> int | None:
        """Seconds since the mail server last confirmed the index; 0 while it is watched, None if never."""
        if self.status == "live" or self.mode is SyncMode.EMBEDDED:
            return 0
        return max(0, (now_ms() - self.checked_at_ms) // 1000) if self.checked_at_ms else None


@dataclass(frozen=True, slots=True)
class ServerInUse:
    """A mail server of an account and the user name there. `is_by_consent`: by OAuth tokens, not by a password."""

    host: str
    port: int
    security: TransportSecurity
    username: str
    is_by_consent: bool


@dataclass(frozen=True, slots=True)
class Account:
    """An account as callers see it. `status`: connecting, syncing, ready, auth_required, unreachable, disabled.

    `servers` are by protocol (imap, pop3, smtp), without secrets; `rules` say which messages stay on the POP3 server.
    """

    id: AccountId
    kind: AccountKind
    email: str
    name: str
    status: str
    sync: SyncState
    servers: Mapping[str, ServerInUse]
    rules: Pop3Rules
    created_at_ms: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Servers:
    """How the mail of an external account is read and sent."""

    imap: ServerLogin | None = None
    smtp: ServerLogin | None = None
    pop3: ServerLogin | None = None
    rules: Pop3Rules = KEEP_ALL
    """Which messages stay on the POP3 server."""

    @classmethod
    def of(cls, logins: Mapping[str, ServerLogin], rules: Pop3Rules = KEEP_ALL) -> Servers:
        """Build from logins by protocol."""
        return cls(logins.get("imap"), logins.get("smtp"), logins.get("pop3"), rules)

    @property
    def logins(self) -> dict[str, ServerLogin]:
        """The existing logins by protocol."""
        return {item.name: login for item in fields(self) if isinstance(login := getattr(self, item.name), ServerLogin)}

    @property
    def grant_id(self) -> str | None:
        """The id of the grant that their tokens come from."""
        sources = [login.tokens for login in self.logins.values()]
        return next((source.grant_id for source in sources if isinstance(source, GrantTokens)), None)

    def with_tokens(self, tokens: GrantTokens | None) -> Servers:
        """Return the servers with these tokens for every login without a password."""
        by_token: dict[str, Any] = {
            name: replace(login, tokens=tokens) for name, login in self.logins.items() if not login.password
        }
        return replace(self, **by_token)

    def without_passwords(self) -> Servers:
        """Return the servers with empty passwords."""
        without: dict[str, Any] = {name: replace(login, password="") for name, login in self.logins.items()}
        return replace(self, **without)


NO_SERVERS = Servers()


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to add: `servers` for an external one, `password` for an embedded one.

    Servers without a password use the tokens of `consent`.
    """

    kind: AccountKind
    email: str
    name: str = ""
    servers: Servers = NO_SERVERS
    password: str | None = None
    consent: Consent | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccountChanges:
    """Changes of an account; None keeps a value. A new `consent` comes with the servers that use it.

    `is_metadata_cleared`: all metadata is removed before `metadata` is set.
    """

    name: str | None = None
    servers: Servers | None = None
    password: str | None = None
    consent: Consent | None = None
    metadata: MetadataChanges = field(default_factory=dict)
    is_metadata_cleared: bool = False


def servers_at(known: Mapping[str, MailServer], kind: AccountKind, username: str) -> Servers:
    """Return logins without a password at the known servers for an account of this kind."""
    names = [item.name for item in fields(Servers) if item.name in (kind.value, "smtp") and item.name in known]
    return Servers.of(
        {name: ServerLogin(known[name].host, known[name].port, known[name].security, username) for name in names}
    )


def account_of(stored: StoredAccount) -> Account:
    described = _all_described(stored.servers)
    return Account(
        id=AccountId(stored.id),
        kind=AccountKind(stored.kind),
        email=stored.email,
        name=stored.name,
        status=stored.status,
        sync=sync_of(stored),
        servers={protocol: _in_use(facts) for protocol, facts in described.items()},
        rules=_rules_of(described.get("pop3", {})),
        created_at_ms=stored.created_at_ms,
        metadata=metadata_of(stored.settings),
    )


def sync_of(stored: StoredAccount | StoredSync) -> SyncState:
    return SyncState(stored.sync_status, SyncMode(stored.sync_mode), stored.checked_at_ms)


def _all_described(column: str) -> dict[str, dict[str, Any]]:
    """The column `servers`: its fields by protocol."""
    return orjson.loads(column) if column else {}


def _in_use(facts: Mapping[str, Any]) -> ServerInUse:
    security = TransportSecurity(facts["security"])
    return ServerInUse(facts["host"], facts["port"], security, facts["username"], "grant" in facts)


def servers_of(stored: StoredAccount, vault: Vault, tokens_of: Callable[[str], GrantTokens]) -> Servers:
    """Return the servers of an account with their passwords or their token source. Raises MasterKeyError."""
    described = _all_described(stored.servers)
    passwords = orjson.loads(vault.open(stored.secrets, stored.id)) if stored.secrets else {}
    logins = {
        protocol: ServerLogin(
            facts["host"],
            facts["port"],
            TransportSecurity(facts["security"]),
            facts["username"],
            passwords.get(protocol, ""),
            tokens_of(facts["grant"]) if "grant" in facts else None,
        )
        for protocol, facts in described.items()
    }
    return Servers.of(logins, _rules_of(described.get("pop3", {})))


def _rules_of(facts: Mapping[str, Any]) -> Pop3Rules:
    return Pop3Rules(Retention.parse(facts.get("retention", "keep")), facts.get("mirror", False))


def sealed_servers(servers: Servers, account_id: AccountId, vault: Vault) -> dict[str, Any]:
    """Return the columns `servers` and `secrets`."""
    logins = servers.logins
    described = {name: _described(login) for name, login in logins.items()}
    if "pop3" in described:
        described["pop3"] |= {"retention": str(servers.rules.retention), "mirror": servers.rules.is_mirror}
    passwords = json_bytes({name: login.password for name, login in logins.items()})
    return {"servers": json_bytes(described).decode(), "secrets": vault.seal(passwords, account_id)}


def _described(login: ServerLogin) -> dict[str, Any]:
    facts = {"host": login.host, "port": login.port, "security": login.security.value, "username": login.username}
    return facts | ({"grant": login.tokens.grant_id} if isinstance(login.tokens, GrantTokens) else {})


def new_values(
    account_id: AccountId, kind: AccountKind, email: str, name: str, now: int, *, password_hash: str | None = None
) -> dict[str, Any]:
    """Return a whole row of table `account`, before anything is known of its servers."""
    is_embedded = kind is AccountKind.EMBEDDED
    return {
        "id": account_id,
        "kind": kind.value,
        "email": email,
        "address": email.lower() if is_embedded else None,
        "name": name,
        "status": "ready" if is_embedded else "connecting",
        "sync_status": "live" if is_embedded else "initial",
        "sync_mode": SyncMode.EMBEDDED.value if is_embedded else SyncMode.POLL.value,
        "checked_at_ms": now if is_embedded else 0,
        "last_seq": 0,
        "first_seq": 0,
        "first_event_ms": 0,
        "last_event_ms": 0,
        "last_uid_validity": 0,
        "servers": "",
        "secrets": None,
        "password_hash": password_hash,
        "credentials_version": 0,
        "settings": "",
        "quotas": "",
        "created_at_ms": now,
    }
