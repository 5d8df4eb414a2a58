"""What the sync of an account promises, whatever its origin can tell and however it fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from app.db import directory
from app.errors import LoginRefused, MailServerError, TimedOut, Unreachable
from app.mail.backend import BackendChanges
from app.mail.confirmed import Applied
from app.mail.delta import Arrived, Delta
from app.mail.identifiers import now_ms
from app.mail.types import SEEN, AccountId, Mailbox
from app.mailstore.index import Index
from app.workers.sync import account

from tests.fake_origin import FakeOrigin, Tells
from tests.harness import Harness, open_harness
from tests.sync_harness import Followed, GivenBackends, add_remote_account, supervised


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


@pytest.fixture(params=list(Tells), ids=lambda one: one.value)
def origin(request: pytest.FixtureRequest) -> FakeOrigin:
    return FakeOrigin(request.param)


@pytest.fixture
async def followed(harness: Harness, origin: FakeOrigin) -> Followed:
    return Followed(harness, await add_remote_account(harness, "ann@fake.test"), origin.backend)


async def settled(followed: Followed, origin: FakeOrigin) -> None:
    """Wait until the index is as the origin is."""
    await followed.until_live()
    await followed.until(followed.content, origin.content())


async def test_what_changes_while_it_is_watched_is_followed(followed: Followed, origin: FakeOrigin) -> None:
    for number in range(3):
        origin.add(f"n{number}")
    async with followed.following():
        await settled(followed, origin)
        origin.add("new")
        origin.flag(1, frozenset({"\\Seen"}))
        origin.expunge(2)
        origin.make("Work")
        origin.add("in it", "Work")
        await settled(followed, origin)

    assert sorted(await followed.told()) == ["message.created"] * 2 + ["message.deleted", "message.updated"]


async def test_a_uid_that_is_given_to_another_message_is_noticed(followed: Followed, origin: FakeOrigin) -> None:
    origin.add("old")
    origin.add("stays")
    async with followed.following():
        await settled(followed, origin)
        [first, second] = sorted(await followed.messages(), key=lambda message: message.uid)

        origin.reuse(1, "new")

        await followed.until(lambda: _subjects(followed), {"new", "stays"})
    now = {message.uid: message.id for message in await followed.messages()}
    assert now[1] != first.id
    assert now[2] == second.id
    assert (await followed.told())[-2:] == ["message.deleted", "message.created"]


async def _subjects(followed: Followed) -> set[str]:
    return set(await followed.subjects())


class Busy(FakeOrigin):
    """Compares "Work" for as long as `is_compared` is not set; `during_fetch` is what happens while INBOX is read."""

    def __init__(self, tells: Tells) -> None:
        super().__init__(tells)
        self.make("Work")
        self.is_compared = asyncio.Event()
        self.is_compared.set()
        self.during_fetch: list[Callable[[], object]] = []

    async def changes(self, mailbox: Mailbox) -> BackendChanges:
        if mailbox.origin_name == "Work":
            await self.is_compared.wait()
        return await super().changes(mailbox)

    async def fetch(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncIterator[list[Arrived]]:
        async for batch in super().fetch(mailbox, uids):
            if mailbox.origin_name == "INBOX" and self.during_fetch:
                self.during_fetch.pop()()
            yield batch


@pytest.fixture(params=list(Tells), ids=lambda one: one.value)
async def busy(request: pytest.FixtureRequest, harness: Harness) -> AsyncIterator[tuple[Followed, Busy]]:
    """An account that is live, whose mailbox "Work" is being compared."""
    origin = Busy(request.param)
    followed = Followed(harness, await add_remote_account(harness, "busy@fake.test"), origin.backend)
    async with followed.following():
        await settled(followed, origin)
        origin.is_compared.clear()
        origin.add("in Work", "Work")
        await followed.until(lambda: followed.subjects("Work"), ["in Work"])
        yield followed, origin


async def test_new_mail_in_inbox_does_not_wait_for_what_is_being_compared(busy: tuple[Followed, Busy]) -> None:
    followed, origin = busy
    origin.add("urgent")

    await followed.until(followed.subjects, ["urgent"])
    origin.is_compared.set()
    await settled(followed, origin)
    assert (await followed.told()).count("message.created") == 2


async def test_a_message_that_is_gone_before_it_was_written_is_gone(busy: tuple[Followed, Busy]) -> None:
    followed, origin = busy
    origin.during_fetch.append(lambda: origin.expunge(1))
    origin.add("short-lived")
    await followed.until(followed.subjects, ["short-lived"])
    origin.is_compared.set()

    await settled(followed, origin)
    assert await followed.subjects() == []


@pytest.mark.parametrize("tells", [Tells.VANISHED, Tells.FLAGS])
@pytest.mark.parametrize(("name", "flag"), [("INBOX", "\\Flagged"), ("INBOX", SEEN), ("Work", SEEN)])
async def test_flags_are_seen_at_once_though_highestmodseq_stands_still(
    harness: Harness, tells: Tells, name: str, flag: str
) -> None:
    origin = FakeOrigin(tells)
    origin.make("Work")
    uid = origin.add("a", name)
    followed = Followed(harness, await add_remote_account(harness, "still@mail.test"), origin.backend)
    async with followed.following():
        await followed.until_live()
        origin.is_standing_still = True

        origin.flag(uid, frozenset({flag}), name)

        await followed.until(lambda: followed.flags(name), [frozenset({flag})])


async def test_what_changed_while_nobody_watched_is_found(followed: Followed, origin: FakeOrigin) -> None:
    for number in range(3):
        origin.add(f"n{number}")
    async with followed.following():
        await settled(followed, origin)
    origin.add("new")
    origin.flag(1, frozenset({"\\Flagged", "\\Seen"}))
    origin.expunge(2)

    async with followed.following():
        await settled(followed, origin)

    assert sorted(await followed.told()) == ["message.created", "message.deleted", "message.updated"]


async def test_a_moved_message_keeps_its_id_whichever_mailbox_is_heard_of_first(
    followed: Followed, origin: FakeOrigin
) -> None:
    origin.make("Work")
    origin.add("there")
    origin.add("back")
    async with followed.following():
        await settled(followed, origin)
        ids = await followed.ids()
        origin.is_quiet = True
        origin.move(1, "INBOX", "Work")
        origin.signal("INBOX")
        await settled(followed, origin)
        assert await followed.ids("Work") == ids[:1]
        origin.move(2, "INBOX", "Work")
        origin.signal("Work")
        await followed.until(lambda: followed.ids("Work"), ids)
        origin.signal("INBOX")
        await settled(followed, origin)

    assert await followed.told() == ["message.moved"] * 2


class _Failing:
    """An index that loses its second piece of flags, and the connection with it."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.pieces: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)

    async def apply(self, account_id: AccountId, delta: Delta, **options: Any) -> Applied:
        if delta.flagged:
            self.pieces.append(len(delta.flagged))
            if len(self.pieces) == 2:
                raise Unreachable
        return await self._index.apply(account_id, delta, **options)


@pytest.mark.parametrize("tells", [Tells.VANISHED, Tells.FLAGS])
async def test_many_changed_flags_are_written_in_pieces_and_those_that_were_cut_off_come_again(
    harness: Harness, tells: Tells
) -> None:
    origin = FakeOrigin(tells)
    followed = Followed(harness, await add_remote_account(harness, "ann@fake.test"), origin.backend)
    count = 230
    for number in range(count):
        origin.add(f"n{number}")
    async with followed.following():
        await settled(followed, origin)
    for uid in range(1, count + 1):
        origin.flag(uid, frozenset({"\\Flagged"}))

    failing = _Failing(harness.index)
    followed.harness = replace(harness, index=cast("Index", failing))
    async with followed.following():
        await settled(followed, origin)

    assert failing.pieces[-3:] == [100, 100, 30]
    assert await followed.told("message.updated") == ["message.updated"] * count


async def test_a_mailbox_that_seems_empty_is_asked_about_anew_before_anything_is_told(
    followed: Followed, origin: FakeOrigin
) -> None:
    for number in range(80):
        origin.add(f"n{number}")
    async with followed.following():
        await settled(followed, origin)
        origin.boxes["INBOX"].is_hiding = True
        origin.flag(1, frozenset({"\\Seen"}))
        await asyncio.sleep(0.2)
        origin.boxes["INBOX"].is_hiding = False
        origin.signal("INBOX")
        await followed.until(followed.subjects, [f"n{number}" for number in range(80)])

    assert "message.deleted" not in await followed.told()


async def test_a_mailbox_that_was_truly_emptied_is(followed: Followed, origin: FakeOrigin) -> None:
    for number in range(80):
        origin.add(f"n{number}")
    async with followed.following():
        await settled(followed, origin)
        for uid in range(1, 81):
            origin.expunge(uid)
        await settled(followed, origin)

    assert await followed.told() == ["message.deleted"] * 80


async def test_a_list_without_inbox_deletes_nothing(followed: Followed, origin: FakeOrigin) -> None:
    origin.add("kept")
    async with followed.following():
        await settled(followed, origin)
        boxes, origin.boxes = origin.boxes, {}
        origin.signal("INBOX", "unknown")
        await followed.until(followed.state, ("unreachable", "down"))
        origin.boxes = boxes
        await settled(followed, origin)

    assert await followed.told("mailbox.deleted") == []


async def test_a_mailbox_that_cannot_be_opened_holds_up_no_other(followed: Followed, origin: FakeOrigin) -> None:
    origin.make("Broken")
    origin.add("lost", "Broken")
    origin.add("found")
    origin.boxes["Broken"].is_refusing = True
    async with followed.following():
        await followed.until_live()
        assert await followed.subjects() == ["found"]
        origin.boxes["Broken"].is_refusing = False
        origin.make("Other")
        await followed.until(lambda: followed.subjects("Broken"), ["lost"])


async def test_a_uidnext_that_was_told_too_high_hides_no_later_mail(
    followed: Followed, origin: FakeOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "CHECK_SECONDS", 0.1)
    origin.add("first")
    async with followed.following():
        await followed.until_live()
        origin.boxes["INBOX"].uid_next = 4_000_000_000
        origin.signal("INBOX")
        await followed.until(lambda: _uid_next(followed), 4_000_000_000)
        origin.boxes["INBOX"].uid_next = 2
        origin.add("second")

        await followed.until(followed.subjects, ["first", "second"])
        await followed.until(lambda: _uid_next(followed), 3)


async def _uid_next(followed: Followed) -> int:
    return (await followed.harness.mailbox(followed.account_id, "INBOX")).uid_next


@pytest.mark.parametrize("error", [Unreachable("gone"), TimedOut("late")])
async def test_a_lost_connection_heals_by_itself(
    followed: Followed, origin: FakeOrigin, error: MailServerError
) -> None:
    async with followed.following():
        await settled(followed, origin)
        origin.lose(error)
        await followed.until(followed.state, ("unreachable", "down"))
        origin.is_quiet = True
        origin.add("meanwhile")
        origin.fault = None
        await settled(followed, origin)

    told = await followed.told("account.")
    assert told == ["account.connected", "account.disconnected", "account.connected"]


async def test_a_sync_that_is_stopped_ends_though_its_connection_is_lost_in_that_moment(
    followed: Followed, origin: FakeOrigin
) -> None:
    origin.is_failing_when_left = True
    async with followed.following():
        await settled(followed, origin)
        task = followed.task
        assert task is not None
        task.cancel()

        done, _ = await asyncio.wait([task], timeout=5)

        assert done == {task}
        assert task.cancelled()


async def test_an_account_that_is_lost_was_fresh_until_then(followed: Followed, origin: FakeOrigin) -> None:
    async with followed.following():
        await settled(followed, origin)
        lost_at_ms = now_ms()
        origin.lose(Unreachable())
        await followed.until(followed.state, ("unreachable", "down"))

    stored = await directory.sync_of(followed.harness.database, followed.account_id)
    assert stored is not None
    assert stored.checked_at_ms >= lost_at_ms


async def test_a_refused_login_is_never_tried_again_by_itself(followed: Followed, origin: FakeOrigin) -> None:
    origin.fault = LoginRefused("no")
    async with followed.following():
        await followed.until(followed.state, ("auth_required", "down"))
        assert followed.task is not None
        await followed.task

    assert await followed.told("account.") == ["account.auth_required"]


async def test_a_message_that_the_api_changed_is_told_once(followed: Followed, origin: FakeOrigin) -> None:
    origin.add("mine")
    async with followed.following():
        await settled(followed, origin)
        origin.is_quiet = True
        uid = origin.add("sent")
        mailbox = await followed.harness.mailbox(followed.account_id)
        (batch,) = [batch async for batch in origin.backend.fetch(mailbox, [uid])]
        await followed.harness.index.apply(followed.account_id, Delta(arrived=tuple(batch)))
        origin.signal("INBOX")
        await settled(followed, origin)

    assert await followed.told() == ["message.created"]
    assert (await followed.harness.mailbox(followed.account_id)).total == 2


async def test_a_sync_that_is_stopped_anywhere_ends_as_a_fresh_one(followed: Followed, origin: FakeOrigin) -> None:
    chance = random.Random(7)
    for number in range(300):
        origin.add(f"n{number}")
    origin.make("Work")
    for step in range(40):
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0, 0.05)), followed.following():
                await asyncio.sleep(1)
        _change_something(origin, chance, step)

    async with followed.following():
        await settled(followed, origin)

    mailboxes = {one.path: one for one in await followed.harness.reader.mailboxes.mailboxes(followed.account_id)}
    assert {path: one.total for path, one in mailboxes.items()} == {
        name: len(box.messages) for name, box in origin.boxes.items()
    }
    assert all(one.is_complete for one in mailboxes.values())


def _change_something(origin: FakeOrigin, chance: random.Random, step: int) -> None:
    inbox = origin.boxes["INBOX"].messages
    uid = chance.choice(sorted(inbox))
    match chance.randrange(4):
        case 0:
            origin.add(f"later{step}")
        case 1:
            origin.flag(uid, frozenset(chance.sample(["\\Seen", "\\Flagged", "$Work"], 2)))
        case 2:
            origin.expunge(uid)
        case _:
            origin.move(uid, "INBOX", "Work")


async def test_one_accounts_trouble_is_its_own(harness: Harness) -> None:
    good, bad = FakeOrigin(), FakeOrigin()
    bad.fault = ZeroDivisionError("a fault of ours")
    accounts = [Followed(harness, await add_remote_account(harness, "a@fake.test"), one.backend) for one in (good, bad)]
    backends = GivenBackends({one.account_id: one.backend for one in accounts})
    async with supervised(harness, backends):
        await accounts[0].until_live()
        good.add("fresh")
        await accounts[0].until(accounts[0].subjects, ["fresh"])


async def test_an_account_that_is_made_later_is_followed_and_one_that_is_removed_is_not(harness: Harness) -> None:
    origin, backends = FakeOrigin(), GivenBackends()
    async with supervised(harness, backends):
        account = Followed(harness, await add_remote_account(harness, "a@fake.test"), origin.backend)
        backends.by_id[account.account_id] = origin.backend
        harness.bus.poke("accounts")
        await account.until_live()

        backends.by_id.clear()
        later = FakeOrigin()
        other = Followed(harness, await add_remote_account(harness, "b@fake.test"), later.backend)
        backends.by_id[other.account_id] = later.backend
        harness.bus.poke("accounts")
        await other.until_live()
        origin.add("unheard")
        later.add("heard")
        await other.until(other.subjects, ["heard"])
        assert await account.subjects() == []


async def test_a_login_that_is_refused_to_two_who_follow_in_turn_is_told_once(
    followed: Followed, origin: FakeOrigin
) -> None:
    origin.fault = LoginRefused("no")
    for _ in range(2):
        async with followed.following():
            assert followed.task is not None
            await followed.task

    assert await followed.told("account.") == ["account.auth_required"]
