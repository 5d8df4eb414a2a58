"""A backup that is put back: whatever clients know of the time that is lost, nothing is mistaken for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from app import faults
from app.db import directory, epoch
from app.db import submissions as rows
from app.db.copies import copy_database
from app.db.epoch import DatabaseRestored, open_epoch
from app.db.migrate import open_database, sqlite_path
from app.db.ownership import DataInUse, sole_use
from app.db.session import Transaction
from app.errors import StateExpired
from app.mail.identifiers import now_ms
from app.mail.types import AccountId, AccountKind, Position
from app.mailstore import maildrop
from app.mailstore.backup import MANIFEST, BackupError, back_up
from app.mailstore.differences import Differences
from app.mailstore.restore import restore, restore_in_place
from app.security.vault import MasterKeyError, Vault
from app.services.access.idempotency import Answer, Attempt, Idempotency
from app.services.following.changes import ChangesSince
from app.services.following.events import Events
from app.services.following.states import StatePosition
from app.settings import Settings

from tests.access import NoSubmissions
from tests.contract.stores import Stores, message, open_stores

VAULT = Vault([bytes(range(32))])
Place = tuple[str, int, int]
"""Mailbox, UIDVALIDITY, UID."""


@dataclass
class Install:
    """An installation, and what clients have seen of it: the message at each place, and of each UIDL."""

    settings: Settings
    account: AccountId
    places: dict[Place, str] = field(default_factory=dict)
    uidls: dict[str, str] = field(default_factory=dict)

    async def begin(self) -> None:
        async with self.stores() as stores:
            await open_epoch(self.settings, stores.database)
            self.account = await stores.add_account()

    def stores(self) -> AbstractAsyncContextManager[Stores]:
        return open_stores(self.settings.data_dir, self.settings.database_url)

    async def deliver(self, *numbers: int) -> None:
        async with self.stores() as stores:
            inbox = await stores.mailbox(self.account, "INBOX")
            for number in numbers:
                content = await stores.store.keep(message(number))
                await stores.store.add(self.account, inbox.id, [(content, frozenset(), None)])
            await self.look(stores)

    async def look(self, stores: Stores) -> None:
        """Compare what is there with what clients saw, and remember it."""
        for mailbox in await stores.reader.mailboxes.mailboxes(self.account):
            uids = sorted(await stores.reader.mirrored.known(self.account, mailbox.id))
            for one in await stores.reader.messages.locate(self.account, mailbox.id, uids):
                place = (mailbox.id, mailbox.uid_validity, one.uid)
                assert self.places.setdefault(place, one.blob or "") == one.blob
        for listed in (await maildrop.snapshot(stores.database, self.account)).messages:
            assert self.uidls.setdefault(listed.uidl, listed.blob) == listed.blob

    async def back_up(self, target: Path) -> None:
        await asyncio.to_thread(back_up, self.settings, target)

    async def restore(self, source: Path) -> None:
        await asyncio.to_thread(restore, self.settings, source)


@pytest.fixture
async def install(database_url: str | None, tmp_path: Path) -> Install:
    made = Install(Settings(data_dir=tmp_path / "data", database_url=database_url), AccountId("none yet"))
    await made.begin()
    return made


async def test_no_uid_and_no_uidl_ever_means_two_messages_however_often_a_backup_is_put_back(
    install: Install, tmp_path: Path
) -> None:
    await install.deliver(1, 2, 3)
    before = dict(install.uidls)
    await install.back_up(tmp_path / "backup")
    for life in (10, 20, 30):
        await install.deliver(*range(life, life + 4))
        await install.restore(tmp_path / "backup")
        async with install.stores() as stores:
            validities = {one.uid_validity for one in await stores.reader.mailboxes.mailboxes(install.account)}
            assert validities.isdisjoint(validity for _, validity, _ in install.places)
            drop = await maildrop.snapshot(stores.database, install.account)
            assert {one.uidl: one.blob for one in drop.messages} == before
            await install.look(stores)
            assert await stores.store.blobs.is_intact(drop.messages[0].blob)
    await install.deliver(40, 41)

    assert len(install.uidls) == 3 + 3 * 4 + 2


async def test_a_mailbox_made_after_the_restore_gets_no_uid_validity_that_was_given_before(
    install: Install, tmp_path: Path
) -> None:
    await install.back_up(tmp_path / "backup")
    given: set[int] = set()
    for life in range(3):
        async with install.stores() as stores:
            for number in range(20):  # faster than the clock, which UIDVALIDITYs are made of
                await stores.store.mailboxes.create(install.account, f"Box {life} {number}")
            validities = [one.uid_validity for one in await stores.reader.mailboxes.mailboxes(install.account)]
        assert len(validities) == len(set(validities))
        assert given.isdisjoint(validities)
        given.update(validities)
        await install.restore(tmp_path / "backup")


async def test_states_and_positions_from_before_a_restore_have_expired(install: Install, tmp_path: Path) -> None:
    await install.deliver(1)
    positions = [await position_of(install)]
    await install.back_up(tmp_path / "backup")
    await install.deliver(2, 3)
    positions.append(await position_of(install))
    await install.restore(tmp_path / "backup")
    await install.deliver(4, 5, 6, 7)

    async with install.stores() as stores:
        known = await open_epoch(install.settings, stores.database)
        events = Events(stores.log, stores.reader, stores.bus, NoSubmissions(), restored_at_ms=known.restored_at_ms)
        source = ChangesSince(Differences(stores.database), stores.log, events)
        mailboxes = {one.id for one in await stores.reader.mailboxes.mailboxes(install.account)}
        for position in positions:
            with pytest.raises(StateExpired) as expired:
                await source.read(install.account, StatePosition(position, position.seq))
            assert set(expired.value.mailbox_ids) == mailboxes
            with pytest.raises(StateExpired, match="restored from a backup"):
                await events.after(install.account, position)
        first = await events.earliest(install.account)
        assert len((await events.after(install.account, first)).events) == 4
        assert len((await source.read(install.account, StatePosition(first, first.seq))).created) == 4


async def position_of(install: Install) -> Position:
    async with install.stores() as stores:
        return await Events(stores.log, stores.reader, stores.bus, NoSubmissions()).position(install.account)


def submission(account_id: AccountId, id_: str, status: str) -> rows.Submission:
    recipients = [["a@x.example", "accepted", "2.0.0", "ok"], ["b@x.example", "pending", None, None]]
    return rows.Submission(
        account_id, id_, status, "content" if status == "sending" else "done", "me@demo.test",
        orjson.dumps(recipients).decode(), f"<{id_}@demo.test>", None, 1, "{}", 1, now_ms() + 3_600_000, None, 0,
        False, now_ms(), now_ms(),
    )  # fmt: skip


async def test_what_may_have_been_sent_since_the_backup_is_uncertain_and_not_sent_again(
    install: Install, tmp_path: Path
) -> None:
    async def work(transaction: Transaction) -> None:
        for status in ("held", "queued", "deferred", "sending", "sent", "failed", "cancelled"):
            await rows.add(transaction, submission(install.account, f"sub_{status}", status))

    async with install.stores() as stores:
        await stores.database.write(work)
    await install.back_up(tmp_path / "backup")
    await install.restore(tmp_path / "backup")

    async with install.stores() as stores:
        found = {one.id[4:]: one for one in await rows.page(stores.database, install.account, 20)}
        due = await rows.due(stores.database, 2**61, [], 20)
    assert {id_: one.status for id_, one in found.items()} == {
        **dict.fromkeys(("held", "queued", "deferred", "sending"), "uncertain"),
        **{status: status for status in ("sent", "failed", "cancelled")},
    }
    assert due == []
    accepted, doubted = orjson.loads(found["queued"].recipients)
    assert (accepted[1], doubted[1]) == ("accepted", "uncertain")
    assert "restored from a backup" in doubted[3]


async def test_a_request_that_ran_when_the_backup_was_made_is_not_run_again(install: Install, tmp_path: Path) -> None:
    async with install.stores() as stores:
        assert isinstance(await Idempotency(stores.database, VAULT).begin("scope", "key", "payload"), Attempt)
    await install.back_up(tmp_path / "backup")
    await install.restore(tmp_path / "backup")

    async with install.stores() as stores:
        answer = await Idempotency(stores.database, VAULT, is_alone=True).begin("scope", "key", "payload")
    assert isinstance(answer, Answer)
    assert answer.status == 409
    assert "restored from a backup" in orjson.loads(answer.body)["detail"]


async def test_every_row_comes_back_as_it_was(install: Install, tmp_path: Path) -> None:
    await install.deliver(1, 2)
    async with install.stores() as stores:
        remote = await stores.add_account(AccountKind.IMAP)
    await install.back_up(tmp_path / "backup")
    before = contents(tmp_path / "backup" / "postgate.sqlite3")
    await install.restore(tmp_path / "backup")
    await install.back_up(tmp_path / "again")

    after = contents(tmp_path / "again" / "postgate.sqlite3")
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"account", "mailbox", "event", "tombstone", "installation"}
    assert before["message"]
    assert remote in {row[0] for row in after["account"]}


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%trigram%'")
        return {name: sorted(connection.execute(f'SELECT * FROM "{name}"'), key=repr) for (name,) in tables.fetchall()}


async def test_a_backup_moves_an_installation_to_the_other_database(
    install: Install, tmp_path: Path, postgres_url: str
) -> None:
    await install.deliver(1, 2, 3)
    await install.back_up(tmp_path / "backup")
    url = postgres_url if install.settings.database_url is None else None
    moved = Install(Settings(data_dir=tmp_path / "other", database_url=url), install.account)
    await (await open_database(moved.settings)).close()

    await moved.restore(tmp_path / "backup")
    await moved.deliver(4)

    assert sorted(moved.places.values()) == sorted({*install.places.values(), *moved.places.values()})
    assert len(moved.places) == 4


def spoil_database(backup: Path) -> None:
    with (backup / "postgate.sqlite3").open("r+b") as file:
        file.seek(5000)
        file.write(b"spoilt")


def spoil_blob(backup: Path) -> None:
    next((backup / "blobs").glob("*/*")).unlink()


def spoil_manifest(backup: Path) -> None:
    (backup / MANIFEST).unlink()


@pytest.mark.parametrize("spoil", [spoil_database, spoil_blob, spoil_manifest])
async def test_a_backup_that_is_not_whole_is_refused_and_nothing_has_changed(
    install: Install, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    await install.deliver(1)
    await install.back_up(tmp_path / "backup")
    await install.deliver(2)
    seen = dict(install.places)
    spoil(tmp_path / "backup")

    with pytest.raises(BackupError):
        await install.restore(tmp_path / "backup")

    async with install.stores() as stores:
        await open_epoch(install.settings, stores.database)
        await install.look(stores)
    assert install.places == seen


async def test_nothing_is_restored_while_a_server_runs(install: Install, tmp_path: Path) -> None:
    await install.back_up(tmp_path / "backup")

    async with install.stores():
        with sole_use(install.settings):
            with pytest.raises(DataInUse):
                await install.restore(tmp_path / "backup")
            with pytest.raises(DataInUse):
                await asyncio.to_thread(restore_in_place, install.settings)


async def test_a_backup_is_made_beside_a_server_and_holds_what_was_acknowledged_before(
    install: Install, tmp_path: Path
) -> None:
    async with install.stores() as stores:
        inbox = await stores.mailbox(install.account, "INBOX")
        await stores.store.add(install.account, inbox.id, [(await stores.store.keep(message(1)), frozenset(), None)])
        await install.back_up(tmp_path / "backup")

    assert len(contents(tmp_path / "backup" / "postgate.sqlite3")["message"]) == 1


async def test_a_backup_whose_key_is_lost_is_refused_and_names_the_key(install: Install, tmp_path: Path) -> None:
    sealing = Vault.of(install.settings)
    async with install.stores() as stores:
        sealed = sealing.seal(b"secret", install.account)

        async def work(transaction: Transaction) -> None:
            await directory.change(transaction, install.account, {"secrets": sealed})

        await stores.database.write(work)
    await install.back_up(tmp_path / "backup")
    assert not list((tmp_path / "backup").rglob("*.key"))
    (install.settings.data_dir / "master.key").unlink()

    with pytest.raises(MasterKeyError, match=sealing.key_id.hex()):
        await install.restore(tmp_path / "backup")


# ---- databases that were put back by other means


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_copy_of_the_database_that_was_put_back_is_refused_until_it_is_restored_in_place(
    install: Install, tmp_path: Path
) -> None:
    path = sqlite_path(install.settings)
    await install.deliver(1, 2)
    copy_database(path, tmp_path / "copy")
    await install.deliver(3)
    await use(install)
    put_back(path, tmp_path / "copy")

    with pytest.raises(DatabaseRestored, match="postgate restore --in-place"):
        await use(install)
    await asyncio.to_thread(restore_in_place, install.settings)
    await use(install)

    await install.deliver(4)


async def test_a_database_that_lost_its_last_writes_is_refused_until_it_is_restored_in_place(install: Install) -> None:
    await install.deliver(1)
    await use(install)
    path = epoch.path_of(install.settings)
    mark = epoch.read(path)
    assert mark is not None
    epoch.write(path, epoch.Mark(mark.epoch, mark.tick + 1))

    with pytest.raises(DatabaseRestored):
        await use(install)
    await asyncio.to_thread(restore_in_place, install.settings)

    await use(install)
    await install.deliver(2)


def put_back(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


async def use(install: Install) -> None:
    """What a server does at its start, and while it runs when something was written."""
    async with install.stores() as stores:
        await open_epoch(install.settings, stores.database)
        await epoch.count_on(install.settings, stores.database)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("point", ["restore.blobs_placed", "restore.marked", "restore.set_aside", "restore.exchanged"])
async def test_a_restore_that_was_killed_is_never_taken_for_done_and_can_be_repeated(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    await install.deliver(1)
    await install.back_up(tmp_path / "backup")
    await install.deliver(2)

    class Killed(Exception):
        pass

    def kill(name: str) -> None:
        if name == point:
            raise Killed

    monkeypatch.setattr(faults, "point", kill)
    with pytest.raises(Killed):
        await install.restore(tmp_path / "backup")
    monkeypatch.undo()
    if point != "restore.blobs_placed":
        with pytest.raises(DatabaseRestored):
            await use(install)
    await install.restore(tmp_path / "backup")

    await use(install)
    await install.deliver(3)


async def test_a_database_that_was_deleted_is_made_anew(install: Install, tmp_path: Path) -> None:
    """Nobody's mail can be mistaken in it: accounts that are added have ids of their own."""
    fresh = Install(Settings(data_dir=tmp_path / "fresh"), install.account)
    await fresh.begin()
    await use(fresh)
    for file in fresh.settings.data_dir.glob("postgate.sqlite3*"):
        file.unlink()

    await fresh.begin()

    await use(fresh)
