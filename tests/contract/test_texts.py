"""The full-text index on both databases: what is found, what goes with a message, what is kept within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

import orjson
import pytest
from app.backends import local
from app.backends.local import LocalBackend
from app.errors import SearchIncomplete
from app.mail import filter as f
from app.mail.delta import Delta, Location, MailboxDeleted, Moved, Previewed, Removed, TextExtracted
from app.mail.searchable import fold
from app.mail.types import AccountId, TokenId
from app.mailstore.texts import TextIndex
from app.mime.searchable import searchable_in
from app.services.access.callers import Caller, Scope, TokenKind
from app.services.reading import texts as module
from app.services.reading.texts import Texts
from app.workers.text_index_quota import TextIndexQuota, TextLimits
from app.workers.text_indexer import TextIndexer, TextReader

from tests.contract.stores import Stores
from tests.gateway import FakeBackends

ANYONE = Caller(TokenId("tok_1"), TokenKind.ACCOUNT, frozenset(Scope))
WIDE = TextLimits(64 * 1024, 16 * 1024 * 1024)


def mail(body: str, subject: str = "Hello", number: int = 1) -> bytes:
    lines = ["From: Ann <ann@example.com>", f"Subject: {subject}", f"Message-ID: <{number}@example.com>"]
    return "\r\n".join([*lines, "Content-Type: text/plain; charset=utf-8", "", body, ""]).encode()


async def deliver(stores: Stores, account: AccountId, content: bytes, path: str = "INBOX", at_ms: int = 1) -> None:
    mailbox = await stores.mailbox(account, path)
    await stores.store.add(account, mailbox.id, [(await stores.store.keep(content), frozenset(), at_ms)])


async def fill(stores: Stores, limits: TextLimits = WIDE) -> None:
    text_index = TextIndex(stores.database)
    reader = TextReader(stores.reader, text_index, limits)
    await TextIndexer(stores.index, stores.reader, text_index, FakeBackends(stores), reader).fill()


async def found(stores: Stores, account: AccountId, term: str, scope: str = "text") -> int:
    return await stores.reader.lists.count(account, f.IndexedText(account, scope, fold(term)))


async def test_a_term_is_found_as_a_part_of_a_text_whatever_it_is_made_of(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, mail('It costs 100% of "foo_bar" * (NEAR) AND {x} \\o/ äöü, Straße'))
    await fill(stores)

    terms = (
        '100% of "foo',
        "foo_b",
        "* (NEAR) AND {",
        "\\o/",
        "ÄÖÜ",
        "STRAßE",
        "s 1",
        "costs 100",
        "It",
        "i",
        '"',
        "\\",
    )
    assert [await found(stores, account, term, "body") for term in terms] == [1] * len(terms)
    others = ("foo%bar", "fooxbar", "OR", "body: costs", "costs*", '" OR "a', "cost  s", "subject:", "zz", "ö/")
    assert [await found(stores, account, term, "body") for term in others] == [0] * len(others)


async def test_a_search_by_text_looks_at_headers_too_and_one_by_body_does_not(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, mail("inside", subject="outside"))
    await fill(stores)

    assert [await found(stores, account, term) for term in ("outside", "inside", "subject: out", "ou")] == [1] * 4
    assert [await found(stores, account, term, "body") for term in ("outside", "inside", "ou")] == [0, 1, 0]


async def test_a_long_term_is_compared_whole(stores: Stores) -> None:
    account = await stores.add_account()
    words = " ".join(f"word{number}" for number in range(80))
    await deliver(stores, account, mail(words))
    await fill(stores)

    assert await found(stores, account, words[:500]) == 1
    assert await found(stores, account, words[:250] + "x" + words[251:500]) == 0


async def test_a_text_goes_with_its_message_and_stays_with_one_that_is_moved(stores: Stores) -> None:
    account = await stores.add_account()
    text_index = TextIndex(stores.database)
    for number in range(3):
        await deliver(stores, account, mail("needle", number=number))
    await deliver(stores, account, mail("needle", number=4), "Archive")
    await fill(stores)
    inbox, archive = await stores.mailbox(account, "INBOX"), await stores.mailbox(account, "Archive")
    assert await found(stores, account, "needle") == 4

    await stores.index.apply(account, Delta(moved=(Moved(Location(inbox.id, 1), Location(archive.id, 0)),)))
    assert await found(stores, account, "needle") == 4
    await stores.index.apply(account, Delta(removed=(Removed(Location(inbox.id, 2)),)))
    assert await text_index.coverage(account) == (3, 3)
    await stores.index.apply(account, Delta(mailboxes_deleted=(MailboxDeleted(archive.id),)))
    assert await text_index.coverage(account) == (1, 1)
    assert await found(stores, account, "needle") == 1


async def test_a_copy_has_its_text_read_anew(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, mail("needle"))
    await fill(stores)
    inbox, archive = await stores.mailbox(account, "INBOX"), await stores.mailbox(account, "Archive")

    await stores.store.copy(account, inbox.id, [1], archive.id)
    assert await TextIndex(stores.database).unindexed(account) == {archive.id: [1]}
    await fill(stores)
    assert await found(stores, account, "needle") == 2


async def test_no_account_finds_what_another_holds(stores: Stores) -> None:
    ours, theirs = await stores.add_account(), await stores.add_account()
    await deliver(stores, theirs, mail("needle"))
    await fill(stores)

    assert (await found(stores, ours, "needle"), await found(stores, ours, "ne")) == (0, 0)
    assert await found(stores, theirs, "needle") == 1
    assert await TextIndex(stores.database).with_field(ours, "Subject", "") == []


async def test_a_field_is_found_by_name_in_the_message_s_own_header(stores: Stores) -> None:
    account = await stores.add_account()
    content = mail("x").replace(b"Subject", b"X-Trace: =?utf-8?q?caf=C3=A9?=\r\n bar\r\nSubject")
    await deliver(stores, account, content)
    await fill(stores)
    text_index = TextIndex(stores.database)

    async def holds(name: str, term: str) -> bool:
        return bool(await text_index.with_field(account, name, fold(term)))

    assert [await holds("x-trace", term) for term in ("", "CAFÉ bar", "cafe", "bar")] == [True] * 4
    assert [await holds(*one) for one in (("Trace", ""), ("X-Trace", "Hello"), ("X-Other", ""))] == [False] * 3


async def test_an_empty_preview_is_read_again_with_the_text(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, mail("The words"))
    inbox = await stores.mailbox(account, "INBOX")
    await stores.index.apply(account, Delta(previewed=(Previewed(Location(inbox.id, 1), ""),)))

    await fill(stores)

    (message,) = await stores.reader.messages.locate(account, inbox.id, [1])
    assert (message.preview, orjson.loads(message.summary)["preview"]) == ("The words", "The words")


async def test_a_text_that_is_too_large_is_left_out_until_the_limit_grows(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, mail("small needle"))
    await deliver(stores, account, mail("large needle " + "x" * 3000))
    text_index = TextIndex(stores.database)

    await fill(stores, TextLimits(2_000, 1_000_000))
    assert await text_index.coverage(account) == (1, 2)
    assert await text_index.awaited(account, 10) == []
    inbox = await stores.mailbox(account, "INBOX")
    assert await text_index.unindexed(account) == {inbox.id: [2]}

    await TextIndexQuota(text_index, WIDE).enter(account)
    await fill(stores)
    assert await found(stores, account, "needle") == 2


async def test_an_account_holds_its_newest_texts_within_the_limit(stores: Stores) -> None:
    account = await stores.add_account()
    text_index = TextIndex(stores.database)
    for number in range(10):
        await deliver(stores, account, mail(f"number{number} " + "x" * 1000, number=number), at_ms=number + 1)
    await fill(stores, TextLimits(64 * 1024, 5_000))
    assert await text_index.size_bytes(account) <= 5_000
    kept = [number for number in range(10) if await found(stores, account, f"number{number}")]
    assert kept == list(range(10 - len(kept), 10))
    assert len(kept) >= 3

    await deliver(stores, account, mail("fresh " + "x" * 1000, number=11), at_ms=100)
    await fill(stores, TextLimits(64 * 1024, 5_000))
    assert await found(stores, account, "fresh") == 1
    assert await text_index.size_bytes(account) <= 5_000

    await TextIndexQuota(text_index, TextLimits(0, 0)).enter(account)
    assert await text_index.coverage(account) == (0, 11)
    assert await text_index.awaited(account, 20) == []


async def test_all_accounts_together_stay_within_the_limit_and_the_largest_gives_up_its_oldest(stores: Stores) -> None:
    large, small = await stores.add_account(), await stores.add_account()
    text_index = TextIndex(stores.database)
    for number in range(10):
        await deliver(stores, large, mail(f"large{number} " + "x" * 1000, number=number), at_ms=number + 1)
    for number in range(3):
        await deliver(stores, small, mail(f"small{number} " + "x" * 1000, number=number), at_ms=number + 1)
    await fill(stores)
    assert sum((await text_index.sizes()).values()) > 8_000

    await fill(stores, replace(WIDE, total_bytes=8_000))

    sizes = await text_index.sizes()
    assert sizes[small] < sizes[large] <= sum(sizes.values()) <= 8_000
    assert [await found(stores, small, f"small{number}") for number in range(3)] == [1, 1, 1]
    kept = [number for number in range(10) if await found(stores, large, f"large{number}")]
    assert kept == list(range(10 - len(kept), 10))
    assert len(kept) >= 3


async def test_a_small_account_finds_room_where_all_is_full_and_what_has_none_is_not_read(stores: Stores) -> None:
    large, small = await stores.add_account(), await stores.add_account()
    text_index, limits = TextIndex(stores.database), replace(WIDE, total_bytes=8_000)
    for number in range(60):
        await deliver(stores, large, mail(f"large{number} " + "x" * 1000, number=number), at_ms=number + 1)
    await fill(stores, limits)
    assert sum((await text_index.sizes()).values()) <= 8_000
    assert await found(stores, large, "large59") == 1

    await deliver(stores, small, mail("small " + "x" * 1000), at_ms=1)
    await deliver(stores, large, mail("fresh " + "x" * 1000), at_ms=100)
    await deliver(stores, large, mail("ancient " + "x" * 1000), at_ms=0)
    await fill(stores, limits)

    assert sum((await text_index.sizes()).values()) <= 8_000
    found_now = [await found(stores, *one) for one in ((small, "small"), (large, "fresh"), (large, "ancient"))]
    assert found_now == [1, 1, 0]


async def test_a_search_finds_the_same_when_texts_were_dropped(stores: Stores) -> None:
    account = await stores.add_account()
    text_index = TextIndex(stores.database)
    for number in range(6):
        body = f"needle{number % 2} café " + "x" * 1000
        await deliver(stores, account, mail(body, f"Subject {number}", number), at_ms=number)
    await fill(stores)
    texts = Texts(FakeBackends(stores), stores.reader, text_index)
    trees: list[f.Filter] = [
        f.Text("body", "NEEDLE1"),
        f.Text("text", "subject 4"),
        f.Text("header:Subject", "ct 2"),
        f.Text("body", "é"),
    ]
    trees += [f.Not(f.Text("body", "needle1"))]

    async def search() -> list[set[str]]:
        answered = [await texts.whole(account, ANYONE, one) for one in trees]
        found = [await stores.reader.lists.search(account, one, limit=10) for one in answered]
        return [{one.anchor.id for one in listed} for listed in found]

    before = await search()
    assert [len(one) for one in before] == [3, 1, 1, 6, 3]
    await TextIndexQuota(text_index, replace(WIDE, total_bytes=3_000)).hold()
    indexed, _ = await text_index.coverage(account)
    assert 0 < indexed < 6
    assert await search() == before
    await TextIndexQuota(text_index, TextLimits(0, 0)).hold()
    assert await search() == before


async def stuck(*_: object) -> Collection[int]:
    await asyncio.sleep(3600)
    return ()


async def test_a_search_answers_with_what_the_index_has_while_the_origin_does_not(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ORIGIN_SECONDS", 0.01)
    monkeypatch.setattr(LocalBackend, "search", stuck)
    account = await stores.add_account()
    for number in range(4):
        await deliver(stores, account, mail(f"needle{number % 2}", number=number))
    await fill(stores)
    for number in range(4, 8):
        await deliver(stores, account, mail(f"needle{number % 2}", number=number))
    texts = Texts(FakeBackends(stores), stores.reader, TextIndex(stores.database))
    has, lacks = f.Text("body", "needle1"), f.Not(f.Text("body", "needle1"))

    for tree in (has, lacks, f.Not(f.Not(has))):
        answered = await texts.answered(account, ANYONE, tree)
        assert not answered.is_complete
        assert await stores.reader.lists.count(account, answered.tree) == 2
    assert await texts.coverage(account, ANYONE, has) == (4, 8)


async def test_a_search_keeps_what_the_origin_found_in_time(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORIGIN_SECONDS", 0.5)
    monkeypatch.setattr(module, "UIDS_AT_FIRST", 2)
    account = await stores.add_account()
    for number in range(6):
        await deliver(stores, account, mail("needle", number=number), at_ms=number + 1)
    texts = Texts(FakeBackends(stores), stores.reader, TextIndex(stores.database))
    asked: list[list[int]] = []

    async def search(_: object, _mailbox: object, _scope: str, _value: str, uids: list[int]) -> Collection[int]:
        asked.append(sorted(uids))
        return uids if len(asked) == 1 else await stuck()

    monkeypatch.setattr(LocalBackend, "search", search)
    answered = await texts.answered(account, ANYONE, f.Text("body", "needle"))

    assert asked == [[5, 6], [1, 2, 3, 4]]
    assert (answered.is_complete, await stores.reader.lists.count(account, answered.tree)) == (False, 2)


async def test_others_have_their_turn_while_many_small_messages_are_looked_through(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "READ_AT_ONCE", 2)
    account = await stores.add_account()
    for number in range(8):
        await deliver(stores, account, mail("needle", number=number))
    backend = await FakeBackends(stores).of(account)
    turns: list[int] = []

    async def tick() -> None:
        while True:
            turns.append(len(turns))
            await asyncio.sleep(0)

    task = asyncio.create_task(tick())
    found = await backend.search(await stores.mailbox(account, "INBOX"), "body", "needle", range(1, 9))
    task.cancel()

    assert (len(found), len(turns) >= 4) == (8, True)


async def test_a_change_of_what_matches_is_refused_rather_than_incomplete(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_SECONDS", 0.01)
    account = await stores.add_account()
    await deliver(stores, account, mail("needle"))
    texts = Texts(FakeBackends(stores), stores.reader, TextIndex(stores.database))
    monkeypatch.setattr(LocalBackend, "search", stuck)

    with pytest.raises(SearchIncomplete):
        await texts.whole(account, ANYONE, f.Text("body", "needle"))
    await fill(stores)
    assert await stores.reader.lists.count(account, await texts.whole(account, ANYONE, f.Text("body", "needle"))) == 1


async def test_the_index_tells_of_a_mailbox_where_a_text_is_and_what_it_does_not_know(stores: Stores) -> None:
    account = await stores.add_account()
    text_index = TextIndex(stores.database)
    for number in range(3):
        await deliver(stores, account, mail(f"needle{number} ZZ", f"Subject {number}", number))
    await deliver(stores, account, mail("needle1"), "Archive")
    await fill(stores)
    await deliver(stores, account, mail("needle1", number=9))
    inbox = await stores.mailbox(account, "INBOX")

    async def look(scope: str, term: str) -> tuple[set[int], set[int]]:
        looked = await text_index.look(account, inbox.id, scope, fold(term))
        return set(looked.found), set(looked.unindexed)

    assert await look("body", "needle1") == ({2}, {4})
    assert await look("text", "SUBJECT 2") == ({3}, {4})
    assert await look("body", "zz") == ({1, 2, 3}, {4})
    assert await look("body", "") == ({1, 2, 3}, {4})
    assert await look("header:Subject", "subject 0") == ({1}, {4})
    assert await look("header:Message-ID", "") == ({1, 2, 3}, {4})
    assert await look("header:X-None", "x") == (set(), {4})
    assert await look("body", "needle\x001") == (set(), {4})
    assert await look("header:Subject", "\ud800\x00x") == (set(), {4})


async def test_a_text_is_taken_once_however_often_it_is_told(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, mail("needle"))
    inbox = await stores.mailbox(account, "INBOX")
    told = Delta(texted=(TextExtracted(Location(inbox.id, 1), searchable_in(mail("needle"))),))

    await asyncio.gather(*(stores.index.apply(account, told) for _ in range(3)))
    await stores.index.apply(account, Delta(texted=(TextExtracted(Location(inbox.id, 1), None),)))
    await stores.index.apply(account, Delta(texted=(TextExtracted(Location(inbox.id, 7), told.texted[0].text),)))

    assert await TextIndex(stores.database).coverage(account) == (1, 1)
    assert (await stores.log.after(account, 0, 100))[-1].type == "message.created"


@pytest.mark.parametrize("text", ["a" * 200_000, "ab" * 100_000, "\u00e9" * 100_000, "\U0001f600" * 50_000])
async def test_hostile_text_is_taken_and_searched_in_moderate_time(stores: Stores, text: str) -> None:
    account = await stores.add_account()
    await deliver(stores, account, mail(text))
    async with asyncio.timeout(10):
        await fill(stores, TextLimits(1024 * 1024, 16 * 1024 * 1024))
        assert await found(stores, account, text[:400]) == 1
        assert await found(stores, account, text[:399] + "b!") == 0
