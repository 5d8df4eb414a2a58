"""Whatever text a message brings, each database stores it; what a database refuses keeps nothing else out."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson
import pytest
from app.backends.local import LocalBackend
from app.db.session import Database, Row, Statement, Transaction, Work
from app.errors import MailboxNotFound, MessageNotFound, NotStorable
from app.mail import filter as f
from app.mail.delta import Arrived, Delta, Flagged, Location, MailboxFound, Previewed, TextExtracted
from app.mail.searchable import Searchable, fold
from app.mail.storable import MAX_TIME_MS, MIN_TIME_MS
from app.mail.types import SEEN, AccountId, AccountKind, Mailbox, MessageId, Overview
from app.mailstore.index import Index
from app.mailstore.store import MailStore
from app.mailstore.texts import TextIndex
from app.mirror.account import Mirror

from tests.contract.stores import Stores

T = TypeVar("T")
POISON = "poison"


def letters(count: int, seed: int = 1) -> str:
    """Text that a database cannot compress to less than an index takes."""
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=count))


async def remote(stores: Stores) -> tuple[AccountId, Mailbox]:
    account_id = await stores.add_account(AccountKind.IMAP)
    await stores.index.apply(account_id, Delta(mailboxes_found=(MailboxFound("INBOX", "INBOX", "/", None, 7),)))
    return account_id, await stores.mailbox(account_id, "INBOX")


def arrived(mailbox: Mailbox, uid: int, overview: Overview | None = None, **more: object) -> Arrived:
    values = {"modseq": 5, **more}
    return Arrived(mailbox.id, uid, frozenset(), uid * 1000, 100, overview or Overview(), None, **values)  # type: ignore[arg-type]


HEADERS = {
    "a NUL in Message-ID, References and In-Reply-To": b"Message-ID: <a\0b@c>\r\nReferences: <q\0@x>\r\n"
    b"In-Reply-To: <q\0@x>\r\n",
    "a Message-ID of 4,000 characters": f"Message-ID: <{letters(4_000)}@x>\r\n".encode(),
    "references of 4,000 characters": f"References: <{letters(4_000)}@x> <{letters(3_000)}@x>\r\n".encode(),
    "a subject of 90,000 characters": b"Subject: Re: " + letters(90_000).encode() + b"\r\n",
    "an answer to a subject of wide characters": ("Subject: Re: " + "\U00020000" * 490 + "\r\n").encode(),
    "a NUL in the subject and the addresses": b'Subject: a\0b\r\nFrom: "a\0b" <a\0@x>\r\nTo: g\0: a@b;\r\n',
    "encoded words of NUL and of a surrogate": b"Subject: =?utf-8?q?=00?= =?utf-7?q?+2AA-?=\r\n"
    b"Message-ID: =?utf-8?q?=00?=\r\n",
    "bytes that are no UTF-8": b"Subject: \xff\xfe\xed\xa0\x80\r\nMessage-ID: <\xff\xed\xa0\x80@x>\r\n",
    "a date beyond every calendar": b"Date: Fri, 31 Dec 999999 23:59:59 +9999\r\n",
    "a NUL in a filename": b"Content-Type: text/plain; name=\"a\0b\"\r\nContent-Disposition: attachment; "
    b"filename*=utf-8''%00%ED%A0%80\r\n",
}  # fmt: skip


async def test_a_message_with_any_header_is_taken_and_listed(stores: Stores) -> None:
    account_id = await stores.add_account()
    inbox = await stores.mailbox(account_id, "INBOX")
    for header in HEADERS.values():
        content = await stores.store.keep(header + b"X-Odd: \0\xff\r\n\r\nh\0\xff\xed\xa0\x80i\r\n")
        await stores.store.add(account_id, inbox.id, [(content, frozenset(), None)])

    listed = await stores.reader.lists.first_page(account_id, inbox.id, 50)

    problems = [(await stores.reader.messages.detail(account_id, MessageId(one.anchor.id))).problems for one in listed]
    assert len(listed) == len(HEADERS)
    assert not any("its header cannot be stored in the index" in one for one in problems)


async def test_a_time_that_no_protocol_can_write_is_stored_as_the_nearest_one(stores: Stores) -> None:
    account_id = await stores.add_account()
    inbox = await stores.mailbox(account_id, "INBOX")
    content = await stores.store.keep(b"Subject: a\r\n\r\nb")

    for received_at_ms in (MAX_TIME_MS + 1, MIN_TIME_MS - 1, 2**63, -(2**63) - 1, 10**40, -(10**40)):
        await stores.store.add(account_id, inbox.id, [(content, frozenset(), received_at_ms)])

    times = [one.anchor.sort_value for one in await stores.reader.lists.first_page(account_id, inbox.id, 10)]
    assert times == [MAX_TIME_MS] * 3 + [MIN_TIME_MS] * 3


async def test_a_message_is_found_by_the_message_id_that_it_came_with(stores: Stores) -> None:
    for header in (f"<{letters(4_000)}@x>", "<a\0b@c>", "<\ud800@c>"):
        await _assert_found(stores, header)


async def _assert_found(stores: Stores, header: str) -> None:
    account_id, inbox = await remote(stores)
    other = f"<{letters(4_000)}@y>"
    answer = Overview(message_id_header="<answer@x>", references=(header,))

    await stores.index.apply(
        account_id,
        Delta(
            arrived=(
                arrived(inbox, 1, Overview(message_id_header=header), origin_id=header),
                arrived(inbox, 2, Overview(message_id_header=other)),
            )
        ),
    )
    await stores.index.apply(account_id, Delta(arrived=(arrived(inbox, 3, answer),)))

    (found,) = await stores.reader.messages.with_header(account_id, header)
    assert found.uid == 1
    assert [one.uid for one in await stores.reader.mirrored.with_headers(account_id, [header])] == [1]
    assert [one.uid for _, one in await stores.reader.mirrored.with_origin_ids(account_id, [header])] == [1]
    assert len(await stores.reader.lists.matching_ids(account_id, f.MessageIdHeader(header), 10)) == 1
    assert (await stores.reader.messages.at(account_id, Location(inbox.id, 3))).thread_id == found.thread_id


async def test_an_odd_id_is_an_unknown_id_on_every_database(stores: Stores) -> None:
    for id_ in ("\0", "msg_\0", "\ud800", "x" * 10_000, "\U0001f600" * 3_000):
        await _assert_unknown(stores, id_)


async def _assert_unknown(stores: Stores, id_: str) -> None:
    account_id = await stores.add_account()

    assert await stores.reader.messages.find(account_id, [id_]) == []
    with pytest.raises(MessageNotFound):
        await stores.reader.messages.message(account_id, id_)
    with pytest.raises(MailboxNotFound):
        await stores.reader.mailboxes.mailbox(account_id, id_)
    assert await stores.reader.lists.matching_ids(account_id, f.InMailbox(id_), 10) == []
    assert await stores.reader.lists.matching_ids(account_id, f.Contains("subject", id_), 10) == []
    assert await stores.reader.lists.matching_ids(account_id, f.HasFlag(id_), 10) == []
    assert await stores.reader.lists.matching_ids(account_id, f.SizeBetween(10**40, -(10**40)), 10) == []


async def test_any_text_comes_into_the_full_text_index_and_is_found_there(stores: Stores) -> None:
    account_id, inbox = await remote(stores)
    await stores.index.apply(account_id, Delta(arrived=(arrived(inbox, 1),)))
    text = Searchable("\nSUBJECT: \0\n\f", fold("needle \0\ud800 ") + letters(20_000), "\0\ud800 shown")

    await stores.index.apply(account_id, Delta(texted=(TextExtracted(Location(inbox.id, 1), text),)))

    texts = TextIndex(stores.database)
    assert set((await texts.look(account_id, inbox.id, "body", fold("needle"))).found) == {1}


# ---- what a database refuses nevertheless


@dataclass
class RefusingTransaction:
    """A transaction of a database that refuses every text with POISON in it."""

    within: Transaction

    async def rows(self, statement: Statement, **values: object) -> Sequence[Row]:
        return await self.within.rows(statement, **_checked(values))

    async def row(self, statement: Statement, **values: object) -> Row | None:
        return await self.within.row(statement, **_checked(values))

    async def execute(self, statement: Statement, **values: object) -> int:
        return await self.within.execute(statement, **_checked(values))

    async def execute_many(self, statement: Statement, values: Sequence[Mapping[str, object]]) -> None:
        await self.within.execute_many(statement, [_checked(one) for one in values])

    def after_commit(self, action: Callable[[], None]) -> None:
        self.within.after_commit(action)


def _checked(values: Mapping[str, object]) -> Mapping[str, object]:
    for value in values.values():
        if isinstance(value, str) and POISON in value:
            raise NotStorable
    return values


class RefusingDatabase:
    """See RefusingTransaction."""

    failure_count = 0

    def __init__(self, database: Database) -> None:
        self._database = database
        self.rows = database.rows
        self.row = database.row
        self.close = database.close

    async def write(
        self, work: Work[T], *, is_durable: bool = True, is_short: bool = False, turn: str | None = None
    ) -> T:
        async def refusing(transaction: Transaction) -> T:
            return await work(RefusingTransaction(transaction))

        return await self._database.write(refusing, is_durable=is_durable, is_short=is_short, turn=turn)


def refusing(stores: Stores) -> Index:
    return Index(RefusingDatabase(stores.database), stores.bus)


def mirror_of(stores: Stores, account_id: AccountId) -> Mirror:
    backend = LocalBackend(account_id, stores.store, stores.reader, stores.database, stores.bus)
    return Mirror(account_id, refusing(stores), stores.reader, backend)


async def test_an_arrival_that_the_database_refuses_keeps_no_other_out(stores: Stores) -> None:
    account_id, inbox = await remote(stores)
    mirror = mirror_of(stores, account_id)
    batch = [
        arrived(inbox, uid, Overview("Hello", message_id_header=f"<{POISON if uid == 2 else uid}@x>"))
        for uid in range(1, 4)
    ]

    applied = await mirror.apply(Delta(arrived=tuple(batch)))

    listed = await stores.reader.lists.first_page(account_id, inbox.id, 10)
    summaries = {one.anchor.uid: orjson.loads(one.summary) for one in listed}
    assert {uid: one["subject"] for uid, one in summaries.items()} == {1: "Hello", 2: "", 3: "Hello"}
    assert {at.uid for at in applied.message_ids} == {1, 2, 3}
    detail = await stores.reader.messages.detail(
        account_id, (await stores.reader.messages.at(account_id, Location(inbox.id, 2))).id
    )
    assert detail.problems == ("its header cannot be stored in the index",)


async def test_a_fact_that_the_database_refuses_keeps_no_other_out(stores: Stores) -> None:
    account_id, inbox = await remote(stores)
    await stores.index.apply(account_id, Delta(arrived=tuple(arrived(inbox, uid) for uid in (1, 2))))
    mirror = mirror_of(stores, account_id)
    places = {uid: Location(inbox.id, uid) for uid in (1, 2)}
    found = {uid: Searchable("", POISON if uid == 1 else "text", "") for uid in (1, 2)}

    await mirror.apply(
        Delta(
            previewed=tuple(Previewed(at, POISON if uid == 1 else "preview") for uid, at in places.items()),
            texted=tuple(TextExtracted(at, found[uid]) for uid, at in places.items()),
            flagged=tuple(Flagged(at, frozenset({POISON if uid == 1 else SEEN})) for uid, at in places.items()),
        )
    )

    kept = {one.uid: one for one in await stores.reader.messages.locate(account_id, inbox.id, [1, 2])}
    assert (kept[1].preview, sorted(kept[1].flags)) == ("", [])
    assert (kept[2].preview, sorted(kept[2].flags)) == ("preview", [SEEN])
    texts = TextIndex(stores.database)
    assert set((await texts.look(account_id, inbox.id, "body", "text")).found) == {2}
    assert await texts.awaited(account_id, 10) == []


async def test_a_delivered_message_that_the_database_refuses_is_taken_without_its_texts(stores: Stores) -> None:
    account_id = await stores.add_account()
    inbox = await stores.mailbox(account_id, "INBOX")
    store = MailStore(RefusingDatabase(stores.database), refusing(stores), stores.store.blobs)
    content = await store.keep(f"Subject: a\r\nMessage-ID: <{POISON}@x>\r\n\r\nb".encode())

    await store.add(account_id, inbox.id, [(content, frozenset({SEEN}), None)])

    (listed,) = await stores.reader.lists.first_page(account_id, inbox.id, 10)
    (found,) = await stores.reader.messages.find(account_id, [listed.anchor.id])
    assert (found.blob, sorted(found.flags)) == (content.blob, [SEEN])


# ---- numbers and order


async def test_a_message_of_an_origin_without_modseq_takes_every_later_one(stores: Stores) -> None:
    account_id, inbox = await remote(stores)
    await stores.index.apply(account_id, Delta(arrived=tuple(arrived(inbox, uid) for uid in range(2, 60))))
    await stores.index.apply(account_id, Delta(arrived=(arrived(inbox, 1, modseq=0),)))

    await stores.index.apply(account_id, Delta(flagged=(Flagged(Location(inbox.id, 1), frozenset({SEEN}), 12),)))

    assert (await stores.reader.messages.at(account_id, Location(inbox.id, 1))).flags == {SEEN}


async def test_of_two_facts_about_the_flags_of_a_message_the_last_one_counts_once(stores: Stores) -> None:
    account_id, inbox = await remote(stores)
    await stores.index.apply(account_id, Delta(arrived=tuple(arrived(inbox, uid) for uid in (1, 2))))
    at = Location(inbox.id, 1)

    def states(*flags: frozenset[str]) -> Delta:
        return Delta(flagged=tuple(Flagged(at, one) for one in flags))

    await stores.index.apply(account_id, states(frozenset({SEEN}), frozenset({SEEN, "kept"})))
    await stores.index.apply(account_id, states(frozenset({SEEN, "lost"}), frozenset({SEEN, "kept"})))

    assert (await stores.mailbox(account_id, "INBOX")).unread == 1
    assert (await stores.reader.messages.at(account_id, at)).flags == {SEEN, "kept"}
