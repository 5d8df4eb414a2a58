"""What every MailBackend promises, said once and run on each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import cast

import pytest
from app.db.idempotency import Claim
from app.errors import (
    AlreadyExists,
    InvalidRequest,
    MessageNotFound,
    NotSupported,
    PartNotFound,
    PreconditionFailed,
    ServerRefused,
)
from app.mail.backend import ByteRange
from app.mail.delta import Removed
from app.mail.types import FLAGGED, SEEN, Address
from app.services.access.idempotency import Attempt, Idempotency
from app.services.changing.landed import landed_since, note_mark

from tests.contract.mail_account import MailAccount, at, joined, location_of

INVOICE = (
    b"From: =?utf-8?q?Ann_=C3=84?= <ann@elsewhere.test>\r\n"
    b"To: me@mail.test\r\n"
    b"Subject: buy 2* now * or 3*\r\n"
    b"Message-ID: <invoice@elsewhere.test>\r\n"
    b"References: <a@elsewhere.test> <b@elsewhere.test>\r\n"
    b"Date: Tue, 01 Jul 2025 10:00:00 +0200\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n'
    b"\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPay me (please) now.\r\n"
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=a.pdf\r\n\r\nJVBERi0xLjQK\r\n--b--\r\n"
)
RECEIVED_AT_MS = 1_751_356_800_000


def note(subject: str) -> bytes:
    return (
        f"From: a@b.test\r\nSubject: {subject}\r\nMessage-ID: <{subject}@b.test>\r\n\r\nText of {subject}.\r\n".encode()
    )


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


async def test_flags_are_added_and_removed(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE, frozenset({FLAGGED}))

    delta = (
        await account.backend.store_flags([message], add=frozenset({SEEN, "$todo"}), remove=frozenset({FLAGGED}))
    ).delta

    (flagged,) = delta.flagged
    assert flagged.location == location_of(message)
    assert flagged.flags == {SEEN, "$todo"}
    assert flagged.modseq > message.modseq or not message.modseq
    assert await account.flags(message) == {SEEN, "$todo"}


async def test_flags_of_a_message_that_changed_since_are_left_alone(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE)
    await account.backend.store_flags([message], add=frozenset({SEEN}))

    with pytest.raises(PreconditionFailed):
        await account.backend.store_flags([message], add=frozenset({FLAGGED}), unchanged_since=message.modseq)

    assert await account.flags(message) == {SEEN}


async def test_a_message_that_has_not_changed_since_takes_its_flags(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE, frozenset({FLAGGED}))

    delta = (
        await account.backend.store_flags(
            [message], add=frozenset({SEEN}), remove=frozenset({FLAGGED}), unchanged_since=message.modseq
        )
    ).delta

    assert delta.flagged[0].flags == {SEEN}


async def test_flagging_a_message_that_is_gone_tells_that_it_is_gone(account: MailAccount) -> None:
    gone, there = await account.add("INBOX", note("gone")), await account.add("INBOX", note("there"))
    await account.backend.expunge([gone])

    delta = (await account.backend.store_flags([gone, there], add=frozenset({SEEN}))).delta

    assert [flagged.location for flagged in delta.flagged] == [location_of(there)]
    assert delta.removed == (Removed(location_of(gone)),)


async def test_a_moved_message_leaves_its_source_for_the_target(account: MailAccount) -> None:
    first, second = await account.add("INBOX", note("first")), await account.add("INBOX", note("second"))
    archive = await account.mailbox("Archive")

    delta = (await account.backend.move([first, second], archive)).delta

    assert {moved.source for moved in delta.moved} == {location_of(first), location_of(second)}
    assert await account.subjects("INBOX") == []
    assert await account.subjects("Archive") == ["first", "second"]
    targets = {moved.source: moved.target for moved in delta.moved}
    moved = at(second, targets[location_of(second)])
    assert await joined(account.backend.read_raw(moved)) == note("second")


async def test_moving_what_is_gone_tells_that_it_is_gone(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE)
    await account.backend.expunge([message])

    delta = (await account.backend.move([message], await account.mailbox("Archive"))).delta

    assert delta.moved == ()
    assert delta.removed == (Removed(location_of(message)),)


async def test_messages_of_several_mailboxes_move_in_one_call(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")
    one, two = await account.add("INBOX", note("one")), await account.add("Work", note("two"))

    delta = (await account.backend.move([one, two], await account.mailbox("Archive"))).delta

    assert len(delta.moved) == 2
    assert sorted(await account.subjects("Archive")) == ["one", "two"]


async def test_a_copied_message_is_in_both_places(account: MailAccount) -> None:
    message = await account.add("INBOX", INVOICE, frozenset({SEEN}))

    delta = (await account.backend.copy([message], await account.mailbox("Archive"))).delta

    (copied,) = delta.copied
    assert copied.source == location_of(message)
    assert await joined(account.backend.read_raw(at(message, copied.target))) == INVOICE
    assert await joined(account.backend.read_raw(message)) == INVOICE


async def test_removal_spares_what_others_marked_as_deleted(account: MailAccount) -> None:
    ours, foreign = await account.add("INBOX", note("ours")), await account.add("INBOX", note("foreign"))
    await account.backend.store_flags([foreign], add=frozenset({"\\Deleted"}))

    with suppress(NotSupported):  # of a server that can only remove all of them
        delta = (await account.backend.expunge([ours])).delta
        by_way_of = {one.source: one.target for one in delta.moved}  # Trash, where only what is there can be removed
        assert delta.removed == (Removed(by_way_of.get(location_of(ours), location_of(ours))),)
        assert await account.subjects("INBOX") == ["foreign"]

    assert "foreign" in await account.subjects("INBOX")


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


async def test_changes_tell_flags_and_removals_since_a_state(account: MailAccount) -> None:
    kept, changed, removed = [await account.add("INBOX", note(name)) for name in ("kept", "changed", "removed")]
    before = await account.mailbox("INBOX")
    await account.backend.store_flags([changed], add=frozenset({SEEN}))
    await account.backend.expunge([removed])
    added = await account.add("INBOX", note("added"))

    changes = await account.backend.changes(before)

    assert changes.flags[changed.uid].flags == {SEEN}
    assert kept.uid not in changes.flags or changes.flags[kept.uid].flags == kept.flags
    assert changes.vanished is None or removed.uid in changes.vanished
    assert changes.uid_next > added.uid
    assert changes.uid_validity == before.uid_validity
    assert changes.highest_modseq > before.highest_modseq or not before.highest_modseq


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


async def test_mailboxes_are_listed_with_roles_and_numbers(account: MailAccount) -> None:
    await account.add("INBOX", note("one"))
    await account.add("INBOX", note("two"), frozenset({SEEN}))

    listed = {one.path: one for one in await account.backend.list_mailboxes()}

    assert {path: one.role for path, one in listed.items()} == account.roles
    inbox = listed["INBOX"]
    assert (inbox.total, inbox.unread, inbox.is_selectable, inbox.is_subscribed) == (2, 1, True, True)


@pytest.mark.parametrize("name", ["Projekte & Ähnliches", "it's", "100%", "日本語", 'quo"te', "a{5}", "b{5+}"])
async def test_a_mailbox_is_made_filled_and_removed_under_any_name(account: MailAccount, name: str) -> None:
    if account.refused_in_names & set(name):
        with pytest.raises(ServerRefused):
            await account.backend.create_mailbox(name)
        return
    delta = (await account.backend.create_mailbox(name)).delta
    message = await account.add(name, note("inside"))

    (found,) = delta.mailboxes_found
    assert (found.path, found.is_subscribed) == (name, True)
    assert await account.subjects(name) == ["inside"]
    mailbox = await account.mailbox(name)
    assert mailbox.id == message.mailbox_id
    assert ((await account.backend.delete_mailbox(mailbox)).delta).mailboxes_deleted[0].mailbox_id == mailbox.id
    assert name not in {one.path for one in await account.backend.list_mailboxes()}


async def test_a_mailbox_that_was_just_made_is_removed_again(account: MailAccount) -> None:
    await account.backend.create_mailbox("Mistake")
    mailbox = await account.mailbox("Mistake")

    await account.backend.delete_mailbox(mailbox)

    assert "Mistake" not in {one.path for one in await account.backend.list_mailboxes()}


async def test_a_mailbox_is_not_made_twice(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")

    with pytest.raises(AlreadyExists):
        await account.backend.create_mailbox("Work")


@pytest.mark.parametrize("name", ["", "a\r\nb", "a\0b", "a//b", "/a"])
async def test_a_mailbox_name_that_cannot_be_is_refused(account: MailAccount, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await account.backend.create_mailbox(name)


async def test_those_below_a_renamed_mailbox_go_along(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")
    await account.backend.create_mailbox("Work/Projects")
    await account.add("Work/Projects", note("plan"))
    projects, work = await account.mailbox("Work/Projects"), await account.mailbox("Work")

    delta = (await account.backend.rename_mailbox(work, "Office")).delta

    assert {(one.mailbox_id, one.path) for one in delta.mailboxes_renamed} == {
        (work.id, "Office"),
        (projects.id, "Office/Projects"),
    }
    assert await account.subjects("Office/Projects") == ["plan"]
    assert (await account.mailbox("Office/Projects")).is_subscribed


async def test_a_subscription_is_ended_and_begun(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")
    work = await account.mailbox("Work")

    await account.backend.set_subscribed(work, False)
    assert not (await account.mailbox("Work")).is_subscribed
    await account.backend.set_subscribed(work, True)
    assert (await account.mailbox("Work")).is_subscribed


async def test_a_mailbox_made_anew_under_its_name_is_another_mailbox(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")
    message = await account.add("Work", note("old"))
    work = await account.mailbox("Work")
    await account.backend.delete_mailbox(work)
    await asyncio.sleep(1.1)  # UIDVALIDITY counts seconds
    await account.backend.create_mailbox("Work")
    await account.add("Work", note("new"))
    account.mirror.known[work.id] = work

    with pytest.raises(MessageNotFound):
        await account.backend.store_flags([message], add=frozenset({SEEN}))
    with pytest.raises(MessageNotFound):
        await joined(account.backend.read_raw(message))
    with pytest.raises(MessageNotFound):
        await account.backend.expunge([message])


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
