"""The ledger of POP3 accounts: each line with what it tells of, in one transaction, on either database."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from app.cluster.leases import Leases
from app.db import directory
from app.errors import Conflict
from app.mail.delta import Completed, Delta, OnServer, Removed
from app.mail.types import AccountId, AccountKind, MailboxId
from app.mailstore.pop3_ledger import Key, Line, Pop3Ledger, Pop3State
from app.workers.pop3.reading import arrival, glimpse

from tests.contract.stores import Stores
from tests.sync_harness import mail

NOW_MS = 1_800_000_000_000


async def opened(stores: Stores) -> tuple[AccountId, Pop3Ledger]:
    account_id = await stores.add_account(AccountKind.POP3)
    await stores.store.mailboxes.create_first(account_id)
    epochs = await Leases(stores.database, is_alone=True).take([account_id], 1)
    return account_id, Pop3Ledger(stores.database, stores.index, stores.bus, account_id, epochs[account_id])


def line(name: str, state: Pop3State = Pop3State.STORED, **facts: object) -> Line:
    return Line(Key(name, 0), 100, state, changed_at_ms=5, **facts)  # type: ignore[arg-type]


async def told(stores: Stores, account_id: AccountId) -> list[str]:
    events = await stores.log.after(account_id, 0, 100)
    return [one.type for one in events if one.type.startswith("message.")]


async def test_what_arrives_gets_a_line_with_the_id_of_its_message(stores: Stores) -> None:
    account_id, ledger = await opened(stores)
    inbox = await stores.mailbox(account_id, "INBOX")
    contents = [await stores.store.keep(mail(subject)) for subject in ("one", "two")]
    arrived = [
        (line(one.blob, content_hash=one.blob), arrival(one, inbox.id, NOW_MS, is_announced=True)) for one in contents
    ]

    await ledger.write([line("other", Pop3State.LISTED)], arrived=arrived)

    rows = await ledger.rows()
    assert len(rows) == 3
    for content in contents:
        row = rows[Key(content.blob, 0)]
        assert row.place is not None
        message = await stores.reader.messages.at(account_id, row.place)
        assert (message.id, message.blob) == (row.message_id, content.blob)
    assert rows[Key("other", 0)] == line("other", Pop3State.LISTED)
    assert await told(stores, account_id) == ["message.created"] * 2


async def test_an_arrival_that_has_no_place_gives_its_id_to_no_other_line(stores: Stores) -> None:
    account_id, ledger = await opened(stores)
    inbox = await stores.mailbox(account_id, "INBOX")
    first, second = [await stores.store.keep(mail(subject)) for subject in ("one", "two")]
    nowhere = arrival(first, MailboxId("mbx_gone"), NOW_MS, is_announced=True)

    await ledger.write(
        [line("other", Pop3State.LISTED)],
        arrived=[(line("a"), nowhere), (line("b"), arrival(second, inbox.id, NOW_MS, is_announced=True))],
    )

    rows = await ledger.rows()
    assert [rows[Key(name, 0)].message_id for name in ("a", "other")] == [None, None]
    place = rows[Key("b", 0)].place
    assert place is not None
    assert (await stores.reader.messages.at(account_id, place)).blob == second.blob


async def test_a_line_takes_the_place_of_its_own_and_others_can_go(stores: Stores) -> None:
    _, ledger = await opened(stores)
    await ledger.write([line("a"), line("b"), line("c")])

    await ledger.write([line("a", Pop3State.DELETE_PENDING)], [Key("b", 0)])

    assert {key.uidl: one.state for key, one in (await ledger.rows()).items()} == {
        "a": Pop3State.DELETE_PENDING,
        "c": Pop3State.STORED,
    }


async def test_a_message_that_was_deleted_for_good_here_is_seen_in_its_line(stores: Stores) -> None:
    account_id, ledger = await opened(stores)
    inbox = await stores.mailbox(account_id, "INBOX")
    content = await stores.store.keep(mail("one"))
    await ledger.write(arrived=[(line("a"), arrival(content, inbox.id, NOW_MS, is_announced=True))])
    (row,) = (await ledger.rows()).values()
    assert row.place is not None
    assert not row.is_deleted_here

    await stores.index.apply(account_id, Delta(removed=(Removed(row.place),)))

    (row,) = (await ledger.rows()).values()
    assert row.is_deleted_here


async def test_content_completes_what_a_header_began(stores: Stores) -> None:
    account_id, ledger = await opened(stores)
    inbox = await stores.mailbox(account_id, "INBOX")
    content = await stores.store.keep(mail("large", "A text. " * 9))
    header = mail("large").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    await ledger.write(arrived=[(line("a", Pop3State.SEEN), glimpse(header, 10**6, inbox.id, NOW_MS))])
    (row,) = (await ledger.rows()).values()
    assert row.place is not None
    before = await stores.reader.messages.at(account_id, row.place)

    whole = arrival(content, inbox.id, NOW_MS, is_announced=True)
    await ledger.write([replace(row, state=Pop3State.STORED)], delta=Delta(completed=(Completed(row.place, whole),)))

    after = await stores.reader.messages.at(account_id, row.place)
    summary = orjson.loads(after.summary)
    assert (before.id, before.blob, before.preview) == (after.id, None, None)
    assert (after.blob, summary["size_bytes"]) == (content.blob, content.arrived.size_bytes)
    assert summary["preview"].startswith("A text.")
    assert after.version > before.version
    assert (await stores.reader.messages.detail(account_id, after.id)).structure is not None
    assert await told(stores, account_id) == ["message.created", "message.updated"]


async def test_whether_a_server_holds_a_message_is_told_once(stores: Stores) -> None:
    account_id, ledger = await opened(stores)
    inbox = await stores.mailbox(account_id, "INBOX")
    content = await stores.store.keep(mail("one"))
    await ledger.write(arrived=[(line("a"), arrival(content, inbox.id, NOW_MS, is_announced=True))])
    (row,) = (await ledger.rows()).values()
    assert row.place is not None

    for _ in range(2):
        await ledger.write(delta=Delta(held=(OnServer(row.place, is_on_server=False),)))

    message = await stores.reader.messages.at(account_id, row.place)
    assert orjson.loads(message.summary)["on_server"] is False
    assert await told(stores, account_id) == ["message.created", "message.updated"]


async def test_a_worker_that_lost_its_lease_writes_nothing(stores: Stores) -> None:
    account_id, ledger = await opened(stores)
    await Leases(stores.database, is_alone=True, worker="another").take([account_id], 1)

    with pytest.raises(Conflict):
        await ledger.write([line("a")])

    assert await ledger.rows() == {}


async def test_an_account_that_is_removed_leaves_no_line(stores: Stores) -> None:
    account_id, ledger = await opened(stores)
    await ledger.write([line("a"), line("b")])

    await directory.clear(stores.database, account_id)

    assert await ledger.rows() == {}
