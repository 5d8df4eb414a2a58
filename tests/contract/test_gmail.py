"""What an account whose mailboxes are labels promises: one message, one id, in all its mailboxes (X-GM-EXT-1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from app.backends.imap.connection import answers
from app.errors import Throttled, TooLarge
from app.mail import filter as f
from app.mail.types import FLAGGED, MailboxId
from app.mailstore.texts import TextIndex
from app.services.access.callers import Caller, Scope, TokenKind
from app.services.access.visibility import as_seen
from app.services.changing.bulk import Bulk
from app.services.changing.messages import MessageChange, Messages
from app.services.reading.content import Content
from app.services.reading.texts import Texts

from tests.access import NoSubmissions
from tests.contract.mail_account import pieces_of
from tests.gmail_harness import GmailAccount, mail, open_gmail
from tests.servers.gmail import OVER_BANDWIDTH, THROTTLED, TOO_MANY
from tests.servers.gmail_store import ALL, INBOX, SENT, STARRED, TRASH
from tests.sync_harness import GivenBackends


@pytest.fixture
async def account(database_url: str | None, tmp_path: Path) -> AsyncIterator[GmailAccount]:
    async with open_gmail(tmp_path, database_url) as account:
        yield account


def caller(*mailbox_ids: str) -> Caller:
    """One who sees these mailboxes; all where none is named."""
    limits = frozenset(mailbox_ids) or None
    return Caller("tok_1", TokenKind.ACCOUNT, frozenset(Scope), mailbox_ids=limits)  # type: ignore[arg-type]


def content_of(account: GmailAccount) -> Content:
    return Content(GivenBackends({account.account_id: account.backend}), account.harness.reader)


def messages_of(account: GmailAccount) -> Messages:
    backends = GivenBackends({account.account_id: account.backend})
    return Messages(backends, account.harness.index, account.harness.reader, content_of(account))


async def mailbox_id(account: GmailAccount, path: str) -> MailboxId:
    return (await account.harness.mailbox(account.account_id, path)).id


async def test_a_message_is_one_in_all_its_mailboxes_and_fetched_once(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    plain, labelled = store.deliver(mail("plain")), store.deliver(mail("labelled"), INBOX, "Work")
    async with account.following():
        await account.settled()

        assert await account.labels() == {"plain": [INBOX, ALL], "labelled": [INBOX, "Work", ALL]}

    assert account.gmail.fetched == {plain.id: 1, labelled.id: 1}


async def test_labels_given_and_taken_by_another_client_keep_the_id(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    one = store.deliver(mail("one"))
    changes: list[tuple[Callable[[], None], list[str]]] = [
        (lambda: store.place(one, "Work"), [INBOX, "Work", ALL]),
        (lambda: store.archive(one), ["Work", ALL]),
        (lambda: store.flag(one, {"\\Flagged"}), ["Work", ALL, STARRED]),
        (lambda: store.trash(one), [TRASH]),
        (lambda: store.place(one, INBOX), [INBOX, ALL, STARRED]),
    ]
    async with account.following():
        await account.settled()
        id_ = (await account.message("one")).id
        for change, paths in changes:
            change()
            await account.settled()
            message = await account.message("one")
            assert message.id == id_
            assert await account.paths_of(message) == sorted(paths)

        assert set(await account.told()) == {"message.moved", "message.updated"}


async def test_new_mail_is_created_once(account: GmailAccount) -> None:
    async with account.following():
        await account.settled()
        account.gmail.store.deliver(mail("new"))
        account.gmail.store.send(mail("sent"))
        await account.settled()

        assert (await account.told()).count("message.created") == 2
        assert await account.labels() == {"new": [INBOX, ALL], "sent": [ALL, SENT]}


# ---- what the API does


@pytest.mark.parametrize(
    ("labels", "target", "paths"),
    [
        ((INBOX,), "Work", ["Work", ALL]),
        ((INBOX, "Work"), ALL, ["Work", ALL]),
        ((INBOX,), ALL, [ALL]),
        (("Work",), INBOX, [INBOX, ALL]),
        ((SENT,), "Work", ["Work", ALL, SENT]),
        ((INBOX, "Work"), TRASH, [TRASH]),
        ((INBOX,), STARRED, [ALL, STARRED]),
    ],
)
async def test_a_move_changes_the_labels_and_is_told_at_once_with_its_id(
    account: GmailAccount, labels: tuple[str, ...], target: str, paths: list[str]
) -> None:
    account.gmail.store.make("Work")
    account.gmail.store.deliver(mail("one"), *labels)
    async with account.following():
        await account.settled()
        before = await account.message("one")

    change = MessageChange(mailbox_id=await mailbox_id(account, target))
    changed = (await messages_of(account).change(account.account_id, caller(), before.id, change)).message

    assert changed is not None
    assert changed.id == before.id
    if target != STARRED:  # whose star is a flag as well, heard of by the next look
        assert await account.paths_of(changed) == sorted(paths)
    async with account.following():
        await account.settled()
        assert await account.labels() == {"one": sorted(paths)}
        assert (await account.message("one")).id == before.id


async def test_to_trash_and_for_good(account: GmailAccount) -> None:
    account.gmail.store.make("Work")
    for subject in ("kept", "trashed", "removed"):
        account.gmail.store.deliver(mail(subject), INBOX, "Work")
    async with account.following():
        await account.settled()
        ids = await account.ids_by_subject()
        messages = messages_of(account)
        trashed = await messages.remove(account.account_id, caller(), ids["trashed"], is_permanent=False)
        removed = await messages.remove(account.account_id, caller(), ids["removed"], is_permanent=True)

        assert trashed.message is not None
        assert await account.paths_of(trashed.message) == [TRASH]
        assert removed.message is None
        assert sorted(one.subject for one in account.gmail.store.mails.values()) == ["kept", "trashed"]
        assert await account.labels() == {"kept": [INBOX, "Work", ALL], "trashed": [TRASH]}
        await account.settled()
        assert await account.ids_by_subject() == {one: ids[one] for one in ("kept", "trashed")}

        await messages.remove(account.account_id, caller(), ids["trashed"], is_permanent=False)
        assert await account.labels() == {"kept": [INBOX, "Work", ALL]}


async def test_a_copy_is_one_more_label_on_the_same_message(account: GmailAccount) -> None:
    account.gmail.store.make("Work")
    account.gmail.store.deliver(mail("one"))
    async with account.following():
        await account.settled()
        id_ = (await account.message("one")).id
        harness, backends = account.harness, GivenBackends({account.account_id: account.backend})
        bulk = Bulk(backends, harness.index, harness.reader, messages_of(account), None, harness.store)  # type: ignore[arg-type]

        result = await bulk.copy(account.account_id, caller(), [id_], await mailbox_id(account, "Work"))

        assert result.new_ids == {id_: id_}
        assert await account.labels() == {"one": [INBOX, "Work", ALL]}
        await account.settled()
        assert await account.told() == ["message.moved"]


async def test_a_flag_is_one_in_all_mailboxes_and_counted_in_each(account: GmailAccount) -> None:
    account.gmail.store.deliver(mail("one"))
    async with account.following():
        await account.settled()
        message = await account.message("one")

        await messages_of(account).change(
            account.account_id, caller(), message.id, MessageChange(add=frozenset({"\\Seen", FLAGGED}))
        )
        await account.settled()

        mailboxes = {one.path: one for one in await account.harness.reader.mailboxes.mailboxes(account.account_id)}
        assert {path: (mailboxes[path].total, mailboxes[path].unread) for path in (INBOX, ALL, STARRED)} == {
            INBOX: (1, 0),
            ALL: (1, 0),
            STARRED: (1, 0),
        }
        assert (await account.told()).count("message.updated") == 1


async def test_what_is_imported_is_one_message_and_what_is_too_large_is_refused_before(account: GmailAccount) -> None:
    async with account.following():
        await account.settled()
        inbox = await account.harness.mailbox(account.account_id, INBOX)
        content = mail("imported")
        delta = (await account.backend.append(inbox, pieces_of(content), len(content), frozenset(), None)).delta
        await account.harness.index.apply(account.account_id, delta)
        await account.settled()

        assert await account.labels() == {"imported": [INBOX, ALL]}
        assert (await account.told()).count("message.created") == 1
        account.gmail.commands.clear()
        with pytest.raises(TooLarge):
            await account.backend.append(inbox, pieces_of(b""), 35_651_585, frozenset(), None)
        assert account.gmail.commands["APPEND"] == 0


# ---- what is read


async def test_lists_and_searches_show_a_message_once_and_in_each_of_its_mailboxes(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    for number in range(5):
        at_ms = 1_700_000_000_000 + number
        store.deliver(mail(f"n{number}"), INBOX, *(["Work"] if number % 2 else []), received_at_ms=at_ms)
    async with account.following():
        await account.settled()
    reader, account_id = account.harness.reader, account.account_id

    async def subjects(tree: f.Filter) -> list[str]:
        return [orjson.loads(one.summary)["subject"] for one in await reader.lists.search(account_id, tree, limit=100)]

    async def first_page(path: str) -> list[str]:
        id_ = await mailbox_id(account, path)
        has_placements = (await reader.mailboxes.standing(account_id)).has_placements
        listed = await reader.lists.first_page(account_id, id_, 3, has_placements=has_placements)
        return [orjson.loads(one.summary)["subject"] for one in listed]

    everything = ["n4", "n3", "n2", "n1", "n0"]
    assert await subjects(f.All(())) == everything
    assert await subjects(f.InMailbox(await mailbox_id(account, ALL))) == everything
    assert await subjects(f.InMailbox(await mailbox_id(account, "Work"))) == ["n3", "n1"]
    assert await subjects(f.Not(f.InMailbox(await mailbox_id(account, "Work")))) == ["n4", "n2", "n0"]
    assert [await first_page(path) for path in (INBOX, "Work", ALL)] == [everything[:3], ["n3", "n1"], everything[:3]]


async def test_a_message_is_read_at_any_of_its_places_and_shows_them(account: GmailAccount) -> None:
    account.gmail.store.deliver(mail("one", text="The text of it"))
    async with account.following():
        await account.settled()
    message, content = await account.message("one"), content_of(account)
    inbox, everything = await mailbox_id(account, INBOX), await mailbox_id(account, ALL)

    for seen in (inbox, everything):
        one = await content.message(account.account_id, caller(seen), message.id)
        assert one.mailbox_id == seen
        assert orjson.loads(one.summary)["mailbox_ids"] == [seen]
        assert b"The text of it" in b"".join([piece async for piece in account.backend.read_raw(one)])
        assert [place["mailbox_id"] for place in await content.locations(one, caller(seen))] == [seen]
    assert [place["mailbox_id"] for place in await content.locations(message, caller())] == [inbox, everything]
    at = account.gmail.store.boxes[ALL].uid_of(next(iter(account.gmail.store.mails.values())))
    assert (await account.harness.reader.messages.locate(account.account_id, everything, [at]))[0].id == message.id


async def test_one_who_sees_one_label_is_told_what_concerns_it_and_no_other_name(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    one = store.deliver(mail("one"))
    changes: list[Callable[[], None]] = [
        lambda: store.place(one, "Work"),
        lambda: store.flag(one, {"\\Seen"}),
        lambda: store.archive(one),
        lambda: store.trash(one),
    ]
    async with account.following():
        await account.settled()
        for change in changes:
            change()
            await account.settled()
    work = await mailbox_id(account, "Work")
    message = await account.message("one")

    reader, events = account.harness.reader, await account.events("message.")
    seen = [await as_seen(reader, NoSubmissions(), event, caller(work)) for event in events]

    told = [orjson.loads(event.body) for event in seen if event is not None]
    assert [event["type"] for event in told] == ["message.updated", "message.deleted"]  # it has left again: not created
    assert {event["data"]["mailbox_id"] for event in told} == {work}
    assert told[1]["data"]["reason"] == "moved"
    hidden = [one.id for one in await account.harness.reader.mailboxes.mailboxes(account.account_id) if one.id != work]
    assert not any(id_ in str(told) for id_ in hidden)
    with pytest.raises(Exception, match="Message not found"):
        await content_of(account).message(account.account_id, caller(work), message.id)


async def test_a_text_that_is_not_indexed_yet_is_sought_in_each_mailbox_that_its_message_is_in(
    account: GmailAccount,
) -> None:
    account.gmail.store.make("Work")
    account.gmail.store.deliver(mail("one", text="The needle"), INBOX, "Work")
    async with account.following():
        await account.settled()
    reader, backends = account.harness.reader, GivenBackends({account.account_id: account.backend})
    texts = Texts(backends, reader, TextIndex(account.harness.database))
    message = await account.message("one")

    for path in (INBOX, "Work", ALL):
        tree = f.All((f.InMailbox(await mailbox_id(account, path)), f.Text("body", "needle")))
        answered = await texts.whole(account.account_id, caller(), tree)
        assert [one.anchor.id for one in await reader.lists.search(account.account_id, answered, limit=10)] == [
            message.id
        ]


async def test_messages_are_of_the_threads_that_gmail_says(account: GmailAccount) -> None:
    account.gmail.store.deliver(mail("first"))
    account.gmail.store.deliver(mail("other"))
    answer = account.gmail.store.deliver(mail("answer", reply_to="first"), "[Gmail]/Sent Mail")
    async with account.following():
        await account.settled()

    threads = {one: (await account.message(one)).thread_id for one in ("first", "other", "answer")}
    assert threads["first"] == threads["answer"] != threads["other"]
    assert answer.thread_id != answer.id


# ---- labels that come and go, first syncs, faults


async def test_a_label_that_is_renamed_or_removed_leaves_its_messages(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    store.deliver(mail("one"), "Work")
    async with account.following():
        await account.settled()
        id_ = (await account.message("one")).id
        store.rename("Work", "Job")
        await account.until(account.labels, {"one": ["Job", ALL]})
        store.remove("Job")
        await account.until(account.labels, {"one": [ALL]})

        assert (await account.message("one")).id == id_
        await account.settled()


async def test_a_first_sync_that_is_broken_off_ends_as_one_that_is_not(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    for number in range(450):
        store.deliver(mail(f"n{number}"), *((INBOX, "Work") if number % 3 else (INBOX,)))
    for _ in range(5):
        async with account.following():
            await account.until(account.has_fetched, True)
        account.gmail.drop_all()
    async with account.following():
        await account.settled()

        assert await account.labels() == {one.subject: sorted(one.homes()) for one in store.mails.values()}
        assert await account.told() == []


async def test_what_is_archived_while_a_first_sync_runs_keeps_its_id_and_a_subscriber_knows_it(
    account: GmailAccount,
) -> None:
    store = account.gmail.store
    for number in range(300):
        store.deliver(mail(f"n{number}"))
    first = next(iter(store.mails.values()))
    account.gmail.hold("EXAMINE", "SELECT", mailbox=ALL)
    async with account.following():
        await account.until(account.has_read_inbox, True)
        id_ = (await account.message("n0")).id
        store.archive(first)
        await account.until(account.told, ["message.deleted"])
        account.gmail.release()
        await account.settled()

        assert (await account.message("n0")).id == id_
        assert await account.told() == ["message.deleted", "message.created"]
        assert await account.paths_of(await account.message("n0")) == [ALL]


@pytest.mark.parametrize("refusal", [TOO_MANY, THROTTLED, OVER_BANDWIDTH])
async def test_a_server_that_has_had_enough_is_left_alone_for_a_while(
    account: GmailAccount, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    monkeypatch.setattr(answers, "REST_SECONDS", 0.3)
    account.gmail.store.deliver(mail("one"))
    account.gmail.refusals = {"AUTHENTICATE": refusal} if refusal is TOO_MANY else {"UID FETCH": refusal}
    async with account.following():
        await account.until(account.state, ("unreachable", "down"))
        assert "account.throttled" in await account.told("account.")
        logins = account.gmail.commands["AUTHENTICATE"]
        assert logins <= 4
        with pytest.raises(Throttled):
            await account.backend.list_mailboxes() if refusal is TOO_MANY else await account.is_equal_anew()
        account.gmail.refusals = {}
        await account.settled()

    assert await account.labels() == {"one": [INBOX, ALL]}
