"""What a mail server does not return: a row says why, and becomes the message once the server returns it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from app.mail.delta import (
    Arrived,
    Completed,
    Delta,
    Location,
    MailboxFound,
    MailboxReset,
    MailboxTroubled,
    TextExtracted,
)
from app.mail.types import AccountId, AccountKind, MailboxId, Overview
from app.mailstore.reading.incomplete import IncompleteMailbox, IncompleteReader
from app.mirror import changes as mirror_changes
from app.workers.sync import account as account_module
from app.workers.sync import rereading

from tests.contract.stores import Stores, open_stores
from tests.fake_origin import REFUSAL, FakeOrigin, Tells
from tests.harness import Harness, open_harness
from tests.sync_harness import Followed, add_remote_account

# ---- the rows, on both databases


@pytest.fixture(params=["sqlite", "postgresql"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    async with open_stores(tmp_path, url) as opened:
        yield opened


async def with_inbox(stores: Stores) -> tuple[AccountId, MailboxId]:
    account_id = await stores.add_account(AccountKind.IMAP)
    found = MailboxFound("INBOX", "INBOX", "/", None, 7)
    applied = await stores.index.apply(account_id, Delta(mailboxes_found=(found,)))
    return account_id, applied.mailbox_ids["INBOX"]


def unread(inbox: MailboxId, uid: int) -> Arrived:
    facts: dict[str, Any] = {"problems": (REFUSAL,), "unread": REFUSAL, "preview": ""}
    return Arrived(inbox, uid, frozenset({"\\Seen"}), 1_000, 0, Overview(), None, **facts)


def whole(inbox: MailboxId, uid: int, **overview: Any) -> Arrived:
    return Arrived(inbox, uid, frozenset(), 2_000, 99, Overview(**overview), None)


async def test_a_row_becomes_the_message_and_keeps_its_id_and_keywords(stores: Stores) -> None:
    account_id, inbox = await with_inbox(stores)
    original = whole(inbox, 1, subject="Trip", message_id_header="<1@x.test>")
    await stores.index.apply(account_id, Delta(arrived=(original, unread(inbox, 2))))
    [before] = await stores.reader.messages.locate(account_id, inbox, [2])

    answer = whole(inbox, 2, subject="Re: Trip", message_id_header="<2@x.test>", in_reply_to=("<1@x.test>",))
    await stores.index.apply(account_id, Delta(completed=(Completed(Location(inbox, 2), answer),)))

    first, after = await stores.reader.messages.locate(account_id, inbox, [1, 2])
    shown = orjson.loads(after.summary)
    assert (after.id, shown["subject"], shown["keywords"], shown["size_bytes"]) == (
        before.id,
        "Re: Trip",
        ["$seen"],
        99,
    )
    assert after.thread_id == first.thread_id == shown["thread_id"]
    assert (after.received_at_ms, after.message_id_header) == (2_000, "<2@x.test>")
    assert (await stores.reader.messages.detail(account_id, after.id)).problems == ()
    [event] = [one for one in await stores.log.after(account_id, 0, 100) if one.type == "message.updated"]
    assert {"subject", "from", "preview"} <= set(orjson.loads(event.body)["data"]["changed"])
    assert await IncompleteReader(stores.database).of([account_id]) == {}


async def test_what_is_incomplete_is_named_and_counted(stores: Stores) -> None:
    account_id, inbox = await with_inbox(stores)
    other = await stores.add_account(AccountKind.IMAP)
    troubled = MailboxTroubled(inbox, "it cannot be opened")
    delta = Delta(arrived=(unread(inbox, 1), unread(inbox, 2), whole(inbox, 3)), mailboxes_troubled=(troubled,))
    await stores.index.apply(account_id, delta)

    found = await IncompleteReader(stores.database).of([account_id, other])

    ids = [one.id for one in await stores.reader.messages.locate(account_id, inbox, [1, 2])]
    [mailbox] = found.pop(account_id)
    assert found == {}
    assert sorted(mailbox.message_ids) == sorted(ids)
    mailbox.message_ids = ()
    assert mailbox == IncompleteMailbox(inbox, "INBOX", "it cannot be opened", 2)
    assert mailbox.count == 3


async def test_a_trouble_of_a_mailbox_is_told_once_and_ends_with_its_uids(stores: Stores) -> None:
    account_id, inbox = await with_inbox(stores)
    for problem in ("broken", "broken", None, "broken"):
        await stores.index.apply(account_id, Delta(mailboxes_troubled=(MailboxTroubled(inbox, problem),)))
    events = [one for one in await stores.log.after(account_id, 0, 100) if one.type == "mailbox.updated"]
    assert [orjson.loads(one.body)["data"]["problem"] for one in events] == ["broken", None, "broken"]

    await stores.index.apply(account_id, Delta(mailboxes_reset=(MailboxReset(inbox, 8),)))

    assert (await stores.reader.mailboxes.mailbox(account_id, inbox)).problem is None


async def test_a_text_that_is_left_out_does_not_make_a_row_look_whole(stores: Stores) -> None:
    account_id, inbox = await with_inbox(stores)
    await stores.index.apply(account_id, Delta(arrived=(unread(inbox, 1),)))

    await stores.index.apply(account_id, Delta(texted=(TextExtracted(Location(inbox, 1), None),)))

    assert [one.uid for one in await IncompleteReader(stores.database).messages(account_id)] == [1]


# ---- an account that is followed


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


@pytest.fixture(params=list(Tells), ids=lambda one: one.value)
def origin(request: pytest.FixtureRequest) -> FakeOrigin:
    return FakeOrigin(request.param)


@pytest.fixture
async def followed(harness: Harness, origin: FakeOrigin, monkeypatch: pytest.MonkeyPatch) -> Followed:
    monkeypatch.setattr(rereading, "SHORTEST_SECONDS", 0.02)
    monkeypatch.setattr(rereading, "LONGEST_SECONDS", 0.05)
    monkeypatch.setattr(account_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(account_module, "CHECK_SECONDS", 0.2)
    return Followed(harness, await add_remote_account(harness, "ann@fake.test"), origin.backend)


async def problems(followed: Followed) -> dict[int, tuple[str, ...]]:
    """By UID of INBOX, what rows say of their messages."""
    reader = followed.harness.reader.messages
    return {one.uid: (await reader.detail(followed.account_id, one.id)).problems for one in await followed.messages()}


async def incomplete(followed: Followed) -> dict[str, tuple[str | None, int]]:
    found = await followed.harness.reader.incomplete.of([followed.account_id])
    return {one.path: (one.problem, one.messages) for one in found.get(followed.account_id, [])}


@pytest.mark.parametrize("is_new", [False, True], ids=["first sync", "new mail"])
async def test_a_refused_message_is_a_row_at_once_and_whole_when_the_server_returns_it(
    followed: Followed, origin: FakeOrigin, is_new: bool
) -> None:
    origin.boxes["INBOX"].refused = {2}
    origin.add("first")
    if not is_new:
        origin.add("second")
    async with followed.following():
        await followed.until_live()
        if is_new:
            origin.add("second")
        await followed.until(lambda: problems(followed), {1: (), 2: (REFUSAL,)})
        assert await incomplete(followed) == {"INBOX": (None, 1)}
        [_, before] = await followed.ids()

        origin.boxes["INBOX"].refused.clear()

        await followed.until(followed.subjects, ["first", "second"])
        await followed.until(lambda: problems(followed), {1: (), 2: ()})
        assert (await followed.ids())[1] == before
        assert await incomplete(followed) == {}


@pytest.mark.parametrize("is_new", [False, True], ids=["first sync", "new mail"])
async def test_a_message_that_the_server_names_and_never_returns_is_a_row_that_says_so(
    followed: Followed, origin: FakeOrigin, is_new: bool
) -> None:
    origin.boxes["INBOX"].omitted = {2}
    origin.add("first")
    if not is_new:
        origin.add("second")
    async with followed.following():
        await followed.until_live()
        if is_new:
            origin.add("second")
        await followed.until(lambda: problems(followed), {1: (), 2: (mirror_changes.OMITTED,)})

        origin.boxes["INBOX"].omitted.clear()

        await followed.until(followed.subjects, ["first", "second"])


async def test_a_mailbox_that_cannot_be_read_is_named_until_it_can(followed: Followed, origin: FakeOrigin) -> None:
    origin.make("Broken")
    origin.add("lost", "Broken")
    origin.boxes["Broken"].is_refusing = True
    async with followed.following():
        await followed.until_live()
        assert await incomplete(followed) == {"Broken": ("broken", 0)}

        origin.boxes["Broken"].is_refusing = False

        await followed.until(lambda: followed.subjects("Broken"), ["lost"])
        await followed.until(lambda: incomplete(followed), {})
    told = [orjson.loads(one.body)["data"]["problem"] for one in await followed.events("mailbox.updated")]
    assert told == ["broken", None]


async def test_a_mailbox_that_was_whole_and_cannot_be_read_any_more_is_named(
    followed: Followed, origin: FakeOrigin
) -> None:
    origin.make("Work")
    origin.add("one", "Work")
    async with followed.following():
        await followed.until_live()
        origin.boxes["Work"].is_refusing = True
        origin.add("two", "Work")
        await followed.until(lambda: incomplete(followed), {"Work": ("broken", 0)})
        origin.boxes["Work"].is_refusing = False
        await followed.until(lambda: incomplete(followed), {})
        await followed.until(lambda: followed.subjects("Work"), ["one", "two"])


async def test_rounds_of_fetching_again_grow_rarer_and_stay_small(
    followed: Followed, origin: FakeOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round asks for a bounded number, and all have their turn."""
    monkeypatch.setattr(rereading, "AT_ONCE", 3)
    origin.boxes["INBOX"].refused = set(range(1, 9))
    for number in range(8):
        origin.add(f"m{number}")
    async with followed.following():
        await followed.until_live()
        origin.boxes["INBOX"].refused = {8, 7, 6}
        await followed.until(lambda: incomplete(followed), {"INBOX": (None, 3)})


async def test_uids_that_are_given_anew_are_noticed_in_any_mailbox_whose_numbers_go_back(
    followed: Followed, origin: FakeOrigin
) -> None:
    origin.make("Work")
    for subject in ("one", "two"):
        origin.add(subject, "Work")
    async with followed.following():
        await followed.until_live()
        origin.is_quiet = True
        for uid in (1, 2):
            origin.expunge(uid, "Work")
        origin.boxes["Work"].uid_next = 1
        origin.boxes["Work"].vanished.clear()
        origin.add("other", "Work")

        await followed.until(lambda: followed.subjects("Work"), ["other"])
