"""What every MailBackend promises of flags, moves, copies and removals, tested on each."""

from __future__ import annotations

from contextlib import suppress

import pytest
from app.errors import (
    NotSupported,
    PreconditionFailed,
)
from app.mail.delta import Removed
from app.mail.types import FLAGGED, SEEN

from tests.contract.mail_account import INVOICE, MailAccount, at, joined, location_of, note


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
