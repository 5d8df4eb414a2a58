"""What every MailBackend promises of adding, reading, listing and searching messages, tested on each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pytest
from app.db.idempotency import Claim
from app.errors import (
    InvalidRequest,
    MessageNotFound,
    PartNotFound,
)
from app.mail.backend import ByteRange
from app.mail.types import SEEN, Address
from app.services.access.idempotency import Attempt, Idempotency
from app.services.changing.lost_responses import landed_since, note_mark

from tests.contract.mail_account import INVOICE, MailAccount, joined, note

RECEIVED_AT_MS = 1_751_356_800_000


async def test_what_is_appended_is_told_as_it_is(account: MailAccount) -> None:
    inbox = await account.mailbox("INBOX")
    await account.add("INBOX", INVOICE, frozenset({SEEN, "$work"}), RECEIVED_AT_MS)

    (arrived,) = await account.backend.newest(inbox, 10)

    assert arrived.overview.subject == "buy 2* now * or 3*"
    assert arrived.overview.from_ == (Address("Ann Ä", "ann@elsewhere.test"),)
    assert arrived.overview.references == ("<a@elsewhere.test>", "<b@elsewhere.test>")
    assert arrived.overview.message_id_header == "<invoice@elsewhere.test>"
    assert arrived.flags == {SEEN, "$work"}
    assert arrived.received_at_ms == RECEIVED_AT_MS
    assert arrived.size_bytes == len(INVOICE)
    assert arrived.structure is not None
    assert [part.media_type for part in arrived.structure.walk()] == [
        "multipart/mixed",
        "text/plain",
        "application/pdf",
    ]
    assert arrived.mailbox_id == inbox.id


class Noting(Attempt):
    """An attempt that keeps in memory what it notes."""

    async def note(self, facts: Mapping[str, object]) -> None:
        self.facts = {**self.facts, **facts}


@pytest.mark.parametrize("content", [note("again"), b"Subject: no id\r\n\r\nTwice.\r\n"])
async def test_what_came_after_a_mark_is_found_even_where_the_same_was_there_before(
    account: MailAccount, content: bytes
) -> None:
    first = await account.add("INBOX", content)
    inbox, attempt = await account.mailbox("INBOX"), Noting(cast("Idempotency", None), Claim("scope", "key", 1))
    await note_mark(attempt, account.backend, inbox)
    assert await landed_since(attempt, account.backend, inbox) == []

    message = await account.add("INBOX", content)

    landed = await landed_since(attempt, account.backend, inbox)
    is_doubled = message.uid != first.uid  # Gmail keeps one message of the same bytes
    header = None if b"no id" in content else "<again@b.test>"
    assert [(arrived.uid, arrived.size_bytes, arrived.overview.message_id_header) for arrived in landed] == (
        [(message.uid, len(content), header)] if is_doubled else []
    )
    assert await joined(account.backend.read_raw(message)) == content


async def test_a_message_is_read_back_byte_for_byte(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE)

    assert await joined(account.backend.read_raw(message)) == INVOICE
    assert await joined(account.backend.read_raw(message, ByteRange(10, 30))) == INVOICE[10:30]
    assert await joined(account.backend.read_raw(message, ByteRange(100))) == INVOICE[100:]


async def test_parts_are_read_one_by_one_or_together(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE)

    assert await joined(account.backend.read_part(message, "2")) == b"JVBERi0xLjQK"
    assert await joined(account.backend.read_part(message, "2", ByteRange(2, 5))) == b"BER"
    parts = await account.backend.read_parts(message, ["HEADER", "1"])
    assert parts == {"HEADER": INVOICE[: INVOICE.index(b"--b\r\n")], "1": b"Pay me (please) now."}


async def test_a_part_that_is_not_there_is_not_found(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE)

    with pytest.raises(PartNotFound):
        await joined(account.backend.read_part(message, "7"))
    with pytest.raises(PartNotFound):
        await account.backend.read_parts(message, ["1", "7"])


async def test_a_message_that_is_gone_is_not_found(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE)
    await account.backend.expunge([message])

    with pytest.raises(MessageNotFound):
        await joined(account.backend.read_raw(message))
    with pytest.raises(MessageNotFound):
        await account.backend.read_parts(message, ["1"])


async def test_reading_leaves_a_message_unseen(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE)

    await joined(account.backend.read_raw(message))
    await account.backend.read_parts(message, ["1"])

    assert await account.flags(message) == frozenset()


async def test_a_large_message_comes_in_pieces_of_bounded_size(account: MailAccount) -> None:
    content = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 64 * 1024 * 3 + b"\r\n"  # or Courier adds it
    message = await account.add("INBOX", content)

    pieces = [piece async for piece in account.backend.read_raw(message)]

    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 256 * 1024


async def test_a_download_that_is_given_up_harms_no_later_one(account: MailAccount) -> None:
    large = await account.add("INBOX", b"Subject: large\r\n\r\n" + b"x" * 5_000_000)
    small = await account.add("INBOX", note("small"))

    async for _ in account.backend.read_raw(large):
        break

    assert await joined(account.backend.read_raw(small)) == note("small")


async def test_the_newest_messages_come_first_and_pages_join(account: MailAccount) -> None:
    for number in range(7):
        await account.add("INBOX", note(f"n{number}"))
    inbox = await account.mailbox("INBOX")

    first = await account.backend.newest(inbox, 3)
    second = await account.backend.newest(inbox, 3, below_uid=first[-1].uid)
    third = await account.backend.newest(inbox, 3, below_uid=second[-1].uid)

    assert [one.overview.subject for one in first] == ["n6", "n5", "n4"]
    assert [one.overview.subject for one in (*second, *third)] == ["n3", "n2", "n1", "n0"]
    assert await account.backend.newest(inbox, 3, below_uid=1) == []


async def test_messages_are_fetched_in_batches_in_the_order_asked(account: MailAccount) -> None:
    uids = [(await account.add("INBOX", note(f"n{number}"))).uid for number in range(5)]
    inbox = await account.mailbox("INBOX")
    wanted = [uids[4], 999_999, uids[0], uids[2]]

    found = [arrived async for batch in account.backend.fetch(inbox, wanted) for arrived in batch]

    assert [arrived.overview.subject for arrived in found] == ["n4", "n0", "n2"]


async def test_a_scan_names_every_message_with_its_flags(account: MailAccount) -> None:
    one = await account.add("INBOX", note("one"), frozenset({SEEN}))
    two = await account.add("INBOX", note("two"))

    scanned = await account.backend.scan(await account.mailbox("INBOX"))

    assert {uid: known.flags for uid, known in scanned.items()} == {one.uid: {SEEN}, two.uid: frozenset()}


async def test_previews_show_the_first_words(account: MailAccount) -> None:
    html = b"Subject: h\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<p>Hello <b>Bob</b></p>\r\n"
    messages = [await account.add("INBOX", INVOICE), await account.add("INBOX", html)]

    previews = await account.backend.previews(messages)

    assert previews == {messages[0].uid: "Pay me (please) now.", messages[1].uid: "Hello Bob"}


@pytest.mark.parametrize(("scope", "value", "found"), [("body", "please", 1), ("text", "2* NOW", 1), ("body", "zä", 0)])
async def test_a_search_finds_text_in_bodies_and_headers(
    account: MailAccount, scope: str, value: str, found: int
) -> None:
    message = await account.add("INBOX", INVOICE)
    await account.add("INBOX", note("other"))

    uids = await account.backend.search(await account.mailbox("INBOX"), scope, value)

    assert list(uids) == ([message.uid] if found else [])


@pytest.mark.parametrize("value", ["a\r\nx LOGOUT", "a\nb", "a\0b"])
async def test_a_search_text_that_would_end_the_command_is_refused(account: MailAccount, value: str) -> None:
    inbox = await account.mailbox("INBOX")
    with pytest.raises(InvalidRequest):
        await account.backend.search(inbox, "text", value)


@pytest.mark.parametrize("value", ['") LOGOUT', "x{5}", "x{5+}", "\\", "%", "*"])
async def test_a_search_text_stays_a_text_whatever_it_holds(account: MailAccount, value: str) -> None:
    message = await account.add("INBOX", b"Subject: s\r\n\r\nIt holds " + value.encode() + b" in it\r\n")

    assert list(await account.backend.search(await account.mailbox("INBOX"), "body", value)) == [message.uid]


async def test_a_search_in_one_header_field_looks_at_no_other(account: MailAccount) -> None:
    listed = await account.add("INBOX", b"List-Id: <news.b.test>\r\nSubject: s\r\n\r\nx\r\n")
    await account.add("INBOX", b"Subject: <news.b.test>\r\n\r\nx\r\n")
    inbox = await account.mailbox("INBOX")

    assert list(await account.backend.search(inbox, "header:List-Id", "NEWS.b")) == [listed.uid]
    assert list(await account.backend.search(inbox, "header:List-Id", "")) == [listed.uid]
    assert list(await account.backend.search(inbox, "header:List-Id", "other")) == []


async def test_a_search_may_be_limited_to_some_messages(account: MailAccount) -> None:
    messages = [await account.add("INBOX", note(f"needle {number}")) for number in range(4)]
    inbox = await account.mailbox("INBOX")
    asked = [messages[1].uid, messages[3].uid]

    assert sorted(await account.backend.search(inbox, "text", "needle", asked)) == asked
    assert list(await account.backend.search(inbox, "text", "needle 2", asked)) == []


async def test_small_messages_are_read_whole_together(account: MailAccount) -> None:
    messages = [await account.add("INBOX", content) for content in (INVOICE, note("other"))]
    gone = replace(messages[0], uid=999, blob=None)

    contents = await account.backend.contents([*messages, gone])

    assert dict(contents) == {messages[0].uid: INVOICE, messages[1].uid: note("other")}
    assert dict(await account.backend.contents([])) == {}


async def test_many_requests_at_once_share_the_connections(account: MailAccount) -> None:
    messages = [await account.add("INBOX", note(f"n{number}")) for number in range(12)]

    contents = await asyncio.gather(*[joined(account.backend.read_raw(message)) for message in messages])

    assert contents == [note(f"n{number}") for number in range(12)]


async def test_a_new_message_anywhere_is_signalled(account: MailAccount) -> None:
    archive = await account.mailbox("Archive")
    watch = await account.backend.watch(await account.mirror.mailboxes(archive.account_id))
    signals = watch.signals()
    try:
        async with asyncio.timeout(20):
            coming = asyncio.ensure_future(anext(signals))
            await account.add("Archive", note("new"))
            signal = await coming
            while signal.origin_names and archive.origin_name not in signal.origin_names:
                signal = await anext(signals)
    finally:
        await signals.aclose()  # type: ignore[attr-defined]

    told = {one.origin_name: one for one in signal.status}
    assert told[archive.origin_name].total == 1
