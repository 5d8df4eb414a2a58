"""Accounts: their mail servers, and how fresh the index of their mail is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from app.cluster.bus import ACCESS, ACCOUNTS, Bus
from app.db import accounts, directory, oauth, tokens
from app.db.session import Database, Transaction
from app.errors import (
    AccountNotFound,
    AlreadyExists,
    Conflict,
    InvalidRequest,
    LoginRefused,
    Unreachable,
)
from app.mail.backend import Backends
from app.mail.identifiers import new_id, now_ms
from app.mail.metadata import (
    KEYS_LIMIT,
    Metadata,
    changed_metadata,
    has_metadata,
    metadata_member,
    metadata_of,
    with_metadata,
)
from app.mail.types import AccountId, AccountKind, ServerLogin
from app.mailstore.reading.incomplete import IncompleteMailbox, IncompleteReader
from app.mailstore.store import MailStore
from app.mime.validate import validate_address
from app.security.netguard import NetGuard
from app.security.vault import Vault
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.access.logins import Logins
from app.services.accounts.reconnects import Reconnects
from app.services.accounts.rows import (
    Account,
    AccountChanges,
    NewAccount,
    Servers,
    SyncState,
    account_of,
    new_values,
    sealed_servers,
    servers_of,
    sync_of,
)
from app.services.oauth.grants import Grants, GrantTokens

__all__ = ["Account", "AccountChanges", "Accounts", "IncompleteMailbox", "NewAccount", "Servers", "SyncState"]

NO_CHANGES = AccountChanges()
EXISTENCE_SECONDS = 5.0
"""How long an account that another node removed may still appear to exist, without mail."""
_CACHE_LIMIT = 100_000


class Accounts:
    """All accounts of this installation."""

    def __init__(
        self,
        database: Database,
        store: MailStore,
        backends: Backends,
        logins: Logins,
        vault: Vault,
        bus: Bus,
        guard: NetGuard,
        domains: tuple[str, ...],
        grants: Grants,
    ) -> None:
        """`domains`: the local domains; an embedded account is in one of them."""
        self._database = database
        self._store = store
        self._backends = backends
        self._logins = logins
        self._vault = vault
        self._bus = bus
        self._guard = guard
        self._domains = frozenset(domain.lower() for domain in domains)
        self._grants = grants
        self._seen: dict[str, float] = {}
        self.restarts = Reconnects(backends, bus)

    # ---- reading

    async def exists(self, account_id: AccountId) -> bool:
        """Whether the account exists; cached for a few seconds."""
        if self._seen.get(account_id, 0.0) > time.monotonic():
            return True
        if not await directory.existing(self._database, [account_id]):
            return False
        if len(self._seen) >= _CACHE_LIMIT:
            self._seen.clear()
        self._seen[account_id] = time.monotonic() + EXISTENCE_SECONDS
        return True

    def _forget_existence(self, account_id: AccountId) -> None:
        self._seen.pop(account_id, None)

    async def visible_ids(self, caller: Caller) -> list[AccountId]:
        """Return the ids of the accounts that a caller may use, oldest first."""
        if caller.account_ids is None:
            return [AccountId(all_id_) for all_id_ in await directory.all_ids(self._database)]
        return sorted(AccountId(text) for text in await directory.existing(self._database, sorted(caller.account_ids)))

    async def sync(self, account_id: AccountId) -> SyncState:
        """Return how fresh the account's index is. Raises AccountNotFound."""
        stored = await directory.sync_of(self._database, account_id)
        if stored is None:
            raise AccountNotFound
        return sync_of(stored)

    async def incomplete(
        self, account_ids: Sequence[AccountId], caller: Caller
    ) -> dict[AccountId, list[IncompleteMailbox]]:
        """Return the mailboxes, visible to the caller, that could not be read completely from their servers."""
        by_account = await IncompleteReader(self._database).of(account_ids)
        return {
            id_: [item for item in mailboxes if caller.sees_mailbox(item.id)] for id_, mailboxes in by_account.items()
        }

    async def get(self, account_id: AccountId) -> Account:
        """Raises AccountNotFound."""
        return account_of(await self._stored(account_id))

    async def embedded(self, email: str) -> AccountId:
        """Return the embedded account with this address. Raises AccountNotFound."""
        stored = await accounts.login_of(self._database, email.lower())
        if stored is None:
            raise AccountNotFound(f"No embedded account has the address {email}")
        return stored.account_id

    async def page(
        self, caller: Caller, limit: int, above_id: str = "", metadata: Metadata | None = None
    ) -> tuple[list[Account], str | None]:
        """Return accounts that the caller may see, oldest first, and the id to continue above; None at the end.

        With `metadata`, only accounts with that metadata; a page may then have fewer than `limit` though more follow.
        """
        ids = None if caller.account_ids is None else sorted(caller.account_ids)
        wanted = metadata or {}
        members = [metadata_member(*member) for member in wanted.items()]
        rows = await directory.page(self._database, above_id, limit, ids, members)
        accounts = [account for account in map(account_of, rows) if has_metadata(account.metadata, wanted)]
        return accounts, (rows[-1].id if len(rows) == limit else None)

    async def servers(self, account_id: AccountId) -> tuple[AccountKind, Servers]:
        """Return how an account's mail is reached, with its credentials. Raises AccountNotFound, MasterKeyError."""
        stored = await self._stored(account_id)
        return AccountKind(stored.kind), servers_of(stored, self._vault, self._grants.tokens_of)

    async def _stored(self, account_id: AccountId) -> directory.StoredAccount:
        stored = await directory.get(self._database, account_id)
        if stored is None:
            raise AccountNotFound
        return stored

    async def capabilities(self, account_id: AccountId) -> list[str]:
        """Return the capabilities that its mail server confirmed. Raises MailServerError."""
        return list(await (await self._backends.of(account_id)).capabilities())

    # ---- changing

    async def add(
        self,
        new: NewAccount,
        by: Caller | None = None,
        *,
        is_verified: bool = True,
        attempt: Attempt | None = None,
        answer: Callable[[Account], Answer] | None = None,
    ) -> Account:
        """Add an account.

        With `is_verified` its logins are tried first, within 10 s; if one fails, nothing is stored. `answer` is
        stored with `attempt` in the same transaction. Raises InvalidRequest, AddressNotAllowed, LoginRefused,
        Unreachable, AlreadyExists, NotSupported, NotPermitted.
        """
        self.check_addition(by)
        email = validate_address(new.email, "/email")
        async with self._grants.trial(new.consent) as granted:
            complete = replace(new, servers=new.servers.with_tokens(granted))
            values = await self._values(complete, email, is_verified=is_verified)
            values["settings"] = with_metadata("", new.metadata)

            async def work(transaction: Transaction) -> Account:
                account = await self._insert(transaction, values, granted)
                if attempt is not None and answer is not None:
                    await attempt.record(transaction, answer(account))
                transaction.after_commit(partial(self._bus.poke, ACCOUNTS))
                return account

            return await self._database.write(work)

    def check_addition(self, by: Caller | None) -> None:
        """Raises NotPermitted for a caller that may not add accounts."""
        if by is not None:
            by.require_whole_install()

    async def _insert(self, transaction: Transaction, values: dict[str, Any], tokens: GrantTokens | None) -> Account:
        account_id = AccountId(values["id"])
        if not await directory.add(transaction, values):
            raise AlreadyExists(f"An account with the address {values['email']} already exists")
        kind = AccountKind(values["kind"])
        if kind.is_kept_here:
            is_filled = kind is AccountKind.EMBEDDED
            await self._store.mailboxes.create_first(account_id, within=transaction, is_filled=is_filled)
        if tokens is not None:
            await _bind(transaction, tokens.grant_id, account_id)
        stored = await directory.get(transaction, account_id)
        assert stored is not None
        return account_of(stored)

    async def _values(self, new: NewAccount, email: str, *, is_verified: bool) -> dict[str, Any]:
        account_id = AccountId(new_id("acc"))
        if new.kind is AccountKind.EMBEDDED:
            password_hash = await self._password_hash(new.password, email)
            return new_values(account_id, new.kind, email, new.name, now_ms(), password_hash=password_hash)
        await self._check_servers(new.kind, new.servers, is_verified=is_verified)
        values = new_values(account_id, new.kind, email, new.name, now_ms())
        status = "ready" if is_verified else "connecting"
        return values | sealed_servers(new.servers, account_id, self._vault) | {"status": status}

    async def _password_hash(self, password: str | None, email: str) -> str:
        if email.rpartition("@")[2].lower() not in self._domains:
            raise InvalidRequest.at("/email", "This domain does not belong to this installation")
        if password is None:
            raise InvalidRequest.at("/password", "Required for an embedded account")
        return await self._logins.hash(password)

    async def _check_servers(self, kind: AccountKind, servers: Servers, *, is_verified: bool) -> None:
        """Refuse forbidden hosts before anything connects, then try the logins."""
        if servers.logins.keys() - {"smtp"} != {kind.value}:
            raise InvalidRequest.at(f"/{kind}", f"An account of kind {kind} needs {kind} and smtp, and no other server")
        for protocol, login in servers.logins.items():
            await self._check_host(f"/{protocol}/host", login, is_verified=is_verified)
        if is_verified:
            await self._backends.verify(servers.logins)

    async def _check_host(self, pointer: str, login: ServerLogin, *, is_verified: bool) -> None:
        try:
            await self._guard.addresses(login.host)
        except InvalidRequest as error:
            raise type(error).at(pointer, error.detail) from None
        except Unreachable:
            if is_verified:
                raise

    async def update(self, account_id: AccountId, changes: AccountChanges, *, is_verified: bool = True) -> Account:
        """Change the name, the servers or the password. New servers are tried first.

        Raises as `add`, and AccountNotFound. A new password, host or user name ends the account's sign-in sessions
        and mail sessions.
        """
        kind, known = await self.servers(account_id)
        if changes.servers is not None and kind is AccountKind.EMBEDDED:
            raise InvalidRequest.at("/imap", "An embedded account has no mail servers")
        if changes.password is not None and kind is not AccountKind.EMBEDDED:
            raise InvalidRequest.at("/password", "Set the passwords of this account in its servers")
        values: dict[str, Any] = {} if changes.name is None else {"name": changes.name}
        if changes.password is not None:
            values["password_hash"] = await self._logins.hash(changes.password)
        if changes.servers is None:
            ends_sign_ins = changes.password is not None
            await self._change(account_id, values, ends_sign_ins=ends_sign_ins, metadata=changes)
            return await self.get(account_id)
        async with self._grants.trial(changes.consent) as granted:
            servers = changes.servers.with_tokens(granted) if granted is not None else changes.servers
            await self._check_servers(kind, servers, is_verified=is_verified)
            values |= sealed_servers(servers, account_id, self._vault)
            values["status"] = "ready" if is_verified else "connecting"
            ends_sign_ins = _proof(servers) != _proof(known)
            await self._change(account_id, values, servers, ends_sign_ins=ends_sign_ins, metadata=changes)
        await self.restarts.wait(account_id)
        return await self.get(account_id)

    async def verify(self, account_id: AccountId) -> Account:
        """Try the account's logins and set its status to the result. Raises LoginRefused, Unreachable …"""
        kind, servers = await self.servers(account_id)
        if kind is not AccountKind.EMBEDDED:
            try:
                await self._backends.verify(servers.logins)
            except LoginRefused:
                await self._change(account_id, {"status": "auth_required"})
                raise
            await self._change(account_id, {"status": "ready"})
        return await self.get(account_id)

    async def reconnect(self, account_id: AccountId) -> Account:
        """Close the connections of an account and open new ones. Raises AccountNotFound."""
        account = await self.get(account_id)
        if account.kind is not AccountKind.EMBEDDED:
            self.restarts.begin(account_id)
            await self.restarts.wait(account_id)
        return account

    async def remove(self, account_id: AccountId, *, is_revoking: bool = True) -> None:
        """Remove an account with its tokens at once, then all of its stored mail. Raises AccountNotFound.

        `is_revoking`: also revoke its OAuth grant at the provider, in the background.
        """
        revocations = self._grants.revocations

        async def work(transaction: Transaction) -> bool:
            taken = await revocations.take(transaction, account_id)
            transaction.after_commit(partial(self._bus.poke, ACCESS))
            transaction.after_commit(partial(self.restarts.begin, account_id))
            transaction.after_commit(partial(self._forget_existence, account_id))
            if is_revoking:
                transaction.after_commit(partial(revocations.begin, taken))
            return await directory.remove(transaction, account_id)

        was_there = await self._database.write(work)
        await self.restarts.wait(account_id)
        if not was_there:
            raise AccountNotFound
        await directory.clear(self._database, account_id)

    async def seal_anew(self) -> int:
        """Encrypt all credentials with the newest master key. Return how many used an older one."""
        count = 0
        for stored in await directory.sealed_secrets(self._database):
            if self._vault.is_current(stored.secrets):
                continue
            secrets = self._vault.seal(self._vault.open(stored.secrets, stored.id), stored.id)
            await self._change(AccountId(stored.id), {"secrets": secrets})
            count += 1
        return count

    async def _change(
        self,
        account_id: AccountId,
        values: dict[str, Any],
        servers: Servers | None = None,
        *,
        ends_sign_ins: bool = False,
        metadata: AccountChanges = NO_CHANGES,
    ) -> None:
        """Change columns. With `servers`, the account keeps only the grant that they use.

        `metadata` has metadata changes.
        """

        async def work(transaction: Transaction) -> None:
            await directory.change(transaction, account_id, values)
            await _change_metadata(transaction, account_id, metadata)
            if ends_sign_ins:
                await end_sign_ins(transaction, account_id)
                transaction.after_commit(partial(self._bus.poke, ACCESS))
            if servers is not None:
                transaction.after_commit(partial(self.restarts.begin, account_id))
            elif "status" in values:
                transaction.after_commit(partial(self._bus.poke, ACCOUNTS))
            if servers is not None and servers.grant_id is not None:
                await _bind(transaction, servers.grant_id, account_id)
            elif servers is not None:
                await oauth.take_grants_of(transaction, account_id)

        if values or _changes_metadata(metadata):
            await self._database.write(work)


def _changes_metadata(changes: AccountChanges) -> bool:
    return bool(changes.metadata) or changes.is_metadata_cleared


async def _change_metadata(transaction: Transaction, account_id: AccountId, changes: AccountChanges) -> None:
    """Raises InvalidRequest for too many keys, AccountNotFound."""
    if not _changes_metadata(changes):
        return
    stored = await directory.locked_settings(transaction, account_id)
    if stored is None:
        raise AccountNotFound
    changed = changed_metadata({} if changes.is_metadata_cleared else metadata_of(stored), changes.metadata)
    if len(changed) > KEYS_LIMIT:
        raise InvalidRequest.at("/metadata", f"An account can have at most {KEYS_LIMIT} metadata keys")
    await directory.change(transaction, account_id, {"settings": with_metadata(stored, changed)})


async def _bind(transaction: Transaction, grant_id: str, account_id: AccountId) -> None:
    if not await oauth.bind_grant(transaction, grant_id, account_id):
        raise Conflict("The consent was withdrawn")


async def end_sign_ins(transaction: Transaction, account_id: AccountId) -> None:
    """End all sessions of the account's credentials, in the transaction that changes them; then poke ACCESS."""
    await accounts.raise_credentials_version(transaction, account_id)
    await tokens.remove_sign_ins(transaction, account_id)


def _proof(servers: Servers) -> dict[str, tuple[str, int, str, str]]:
    """Return what a sign-in with the password of an account proves, by protocol."""
    return {name: (login.host, login.port, login.username, login.password) for name, login in servers.logins.items()}
