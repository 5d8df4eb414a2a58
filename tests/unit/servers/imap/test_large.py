"""Mailboxes of many messages: what sessions hold of them, and how much is done before others have their turn."""

from __future__ import annotations

import asyncio
import gc
import sys
from array import array
from types import SimpleNamespace
from typing import cast

import pytest
from app.loop_watch import COLLECTION, LoopWatch
from app.mail.types import Mailbox, MailboxId
from app.mailstore.views import LoggedChange, MailboxViews, MessageValues
from app.servers.imap import news, rows, shared
from app.servers.imap.commands import fetch
from app.servers.imap.numbers import SetWriter
from app.servers.imap.session import ServerSession
from app.servers.imap.view import MailboxView, SharedUids
from app.servers.pace import TURN_UNITS, Yielding
from app.wire.imap.sets import SequenceSet
from prometheus_client import REGISTRY

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import USER, Talk

MESSAGES = 146_000
SESSION_LIMIT_BYTES = 2_000_000


async def fill(harness: Harness, count: int) -> Mailbox:
    account_id = (await harness.logins.verify(USER, "secret", address="127.0.0.1")).account_id
    inbox = await harness.mailbox(account_id)
    content = await harness.store.keep(mail("Hello"))
    await harness.store.add(account_id, inbox.id, [(content, frozenset[str](), None)] * count)
    return await harness.mailbox(account_id)


def session_of(talk: Talk) -> ServerSession:
    return talk.conversation._session


def view_of(talk: Talk) -> MailboxView:
    return session_of(talk).selected


def held_bytes(view: MailboxView) -> int:
    """What an open view holds beside the shared array, each object counted once."""
    seen: set[int] = {id(view.shared), id(view.shared.uids)}
    waiting: list[object] = [view]
    held = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        held += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return held


# ---- what a session holds


def large_view(base: SharedUids) -> MailboxView:
    return MailboxView(MailboxId("mbx_1"), base, is_read_only=False)


def test_a_further_session_on_a_large_mailbox_shares_its_uids() -> None:
    base = SharedUids(array("I", range(1, MESSAGES + 1)), 0)
    first, second = large_view(base), large_view(base)

    for view in (first, second):
        view.recent.add(1, MESSAGES)
        view.saved = view.resolve(SequenceSet.parse("1:*"), is_uid=False)

    assert first.uids() is second.uids() is base.uids
    assert first.saved is base.uids
    assert held_bytes(second) < 10_000


def test_a_session_on_a_large_mailbox_stays_small_whatever_happens_there() -> None:
    base = SharedUids(array("I", range(1, MESSAGES + 1)), 0)
    view = large_view(base)
    for uid in range(1, MESSAGES + 1, 3):
        view.remove(uid)
    for uid in range(MESSAGES + 1, MESSAGES + 20_001):
        view.arrive(uid)
    assert held_bytes(view) < SESSION_LIMIT_BYTES

    while view.take_expunged(500):
        assert held_bytes(view) < SESSION_LIMIT_BYTES
    view.take_arrivals()
    view.flag_all()

    assert held_bytes(view) < SESSION_LIMIT_BYTES
    assert len(base.uids) == MESSAGES
    assert view.exists == MESSAGES - len(range(1, MESSAGES + 1, 3)) + 20_000


@pytest.mark.soak
async def test_twenty_sessions_on_146_000_messages_share_what_they_hold(harness: Harness) -> None:
    for _ in range(MESSAGES // 2_000):
        await fill(harness, 2_000)

    talks = [await Talk.logged_in(harness, "SELECT INBOX", "UID SEARCH RETURN (SAVE) ALL") for _ in range(20)]
    for talk in talks[1:]:
        assert view_of(talk).exists == MESSAGES
        assert held_bytes(view_of(talk)) < SESSION_LIMIT_BYTES


LONG_COMMANDS = [
    *("SEARCH ALL", "SEARCH SAVEDSINCE 1-Jan-2020", "SORT (SUBJECT) UTF-8 ALL", "SORT (FROM REVERSE DATE) UTF-8 ALL"),
    *("UID SORT RETURN (ALL COUNT) (SIZE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL"),
    *("UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)", "UID FETCH 1:* FLAGS (CHANGEDSINCE 145000 VANISHED)"),
]


@pytest.mark.soak
async def test_no_command_on_146_000_messages_holds_the_event_loop(harness: Harness) -> None:
    for _ in range(MESSAGES // 2_000):
        await fill(harness, 2_000)
    opened = await Talk.logged_in(harness, "ENABLE QRESYNC", "SELECT INBOX")
    talk = Forgetful(opened.conversation, opened.peer)
    held_before = held_callbacks()
    watch = LoopWatch(20)
    watch.install()
    try:
        for command in LONG_COMMANDS:
            await asyncio.create_task(talk.feed(f"a {command}\r\n".encode()))
            assert talk.sent.endswith(b" completed\r\n"), command
    finally:
        watch.remove()

    assert held_callbacks() == held_before


class Forgetful(Talk):
    """Keeps no more than the last answer, so that what it is sent costs nothing."""

    async def send(self, data: bytes) -> None:
        self.sent[:] = data


def held_callbacks() -> dict[str, float]:
    """How often which callback held the event loop, garbage collections aside."""
    found: dict[str, float] = {}
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            name = sample.labels.get("callback", COLLECTION)
            if sample.name == "postgate_loop_held_total" and name != COLLECTION:
                found[name] = sample.value
    return found


# ---- sharing between sessions


async def test_sessions_on_one_mailbox_hold_one_array(harness: Harness) -> None:
    await fill(harness, 5)

    first = await Talk.logged_in(harness, "SELECT INBOX")
    services = session_of(first).services
    second = Talk.start(harness)
    session_of(second).services = services
    await second.say(f"LOGIN {USER} secret")
    await fill(harness, 2)
    await first.say("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
    await first.say("EXPUNGE")
    answers = await second.say("SELECT INBOX")

    assert b"* 6 EXISTS" in answers
    assert view_of(first).shared is view_of(second).shared
    assert list(view_of(second).uids()) == [1, 3, 4, 5, 6, 7]
    assert (await second.say("UID FETCH 3:7 UID"))[0] == b"* 2 FETCH (UID 3)"
    assert view_of(second).take_expunged(10) == []


async def test_an_array_from_too_long_ago_is_read_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "CHANGES_LIMIT", 3)
    inbox = await fill(harness, 3)
    views = MailboxViews(harness.database)
    mailboxes = shared.SharedMailboxes(views)
    first = await mailboxes.open(inbox, await views.position(inbox.account_id), is_read_only=False)
    inbox = await fill(harness, 4)

    second = await mailboxes.open(inbox, await views.position(inbox.account_id), is_read_only=False)

    assert second.shared is not first.shared
    assert (first.exists, second.exists) == (3, 7)


async def test_sessions_that_open_a_mailbox_together_read_it_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "UIDS_AT_ONCE", 2)
    inbox = await fill(harness, 5)
    views = MailboxViews(harness.database)
    position = await views.position(inbox.account_id)
    mailboxes = shared.SharedMailboxes(views)

    opened = await asyncio.gather(*(mailboxes.open(inbox, position, is_read_only=True) for _ in range(4)))

    assert len({id(view.shared) for view in opened}) == 1
    assert [view.exists for view in opened] == [5] * 4


# ---- how much is done at a time


async def test_a_long_fetch_is_read_as_the_client_takes_it(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_LIMIT", 10)
    monkeypatch.setattr(rows, "FEW_ROWS", 5)
    await fill(harness, 40)
    talk = await Talk.logged_in(harness, "SELECT INBOX")
    log: list[str] = []
    read = MailboxViews.rows_between

    async def noted(self: MailboxViews, *wanted: object) -> list[MessageValues]:
        log.append("read")
        return await read(self, *wanted)  # type: ignore[arg-type]  # passed on as they came

    async def send(_: Talk, data: bytes) -> None:
        log.extend(["sent"] if b"FETCH" in data else [])

    monkeypatch.setattr(MailboxViews, "rows_between", noted)
    monkeypatch.setattr(Talk, "send", send)
    await talk.say("FETCH 1:* (FLAGS)")

    assert log == ["read", "sent"] * 4 + ["sent"]  # the last is the completion


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "least_units"),
    [
        ("FETCH 1:* (FLAGS UID INTERNALDATE RFC822.SIZE)", 5_000),
        ("UID SEARCH ALL", 200),
        ("SEARCH RETURN (ALL) ALL", 200),
        ("STORE 1:* +FLAGS (\\Seen)", 2_000),
        ("STORE 1:* +FLAGS.SILENT (\\Seen)", 1_000),
    ],
)
async def test_no_piece_of_a_long_answer_is_more_than_a_turn_of_work(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, command: str, least_units: int
) -> None:
    await fill(harness, 1_000)
    talk = await Talk.logged_in(harness, "SELECT INBOX")
    pieces: list[int] = []
    spend = Yielding.spend

    async def noted(self: Yielding, units: int) -> None:
        pieces.append(units)
        await spend(self, units)

    monkeypatch.setattr(Yielding, "spend", noted)
    assert (await talk.say(command))[-1].startswith(b"a OK")

    assert max(pieces) <= TURN_UNITS * 2
    assert sum(pieces) >= least_units


async def test_what_happened_meanwhile_is_told_in_pieces(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "CHANGES_LIMIT", 10)
    await fill(harness, 35)
    talk, other = await Talk.logged_in(harness, "SELECT INBOX"), await Talk.logged_in(harness, "SELECT INBOX")
    await other.say("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    held: list[int] = []
    note = MailboxView.note

    def noted(self: MailboxView, change: LoggedChange) -> None:
        note(self, change)
        held.append(len(self._flagged))

    monkeypatch.setattr(MailboxView, "note", noted)
    answers = await talk.say("NOOP")

    assert len([line for line in answers if b"FETCH" in line]) == 35
    assert max(held) == 10


async def test_expunges_of_many_messages_leave_the_client_with_what_is_left(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "LINES_LIMIT", 3)
    await fill(harness, 20)
    talk, other = await Talk.logged_in(harness, "SELECT INBOX"), await Talk.logged_in(harness, "SELECT INBOX")
    await other.say("STORE 2,4:15,20 +FLAGS.SILENT (\\Deleted)")
    await other.say("EXPUNGE")
    client = list(range(1, 21))

    for line in await talk.say("NOOP"):
        if line.endswith(b" EXPUNGE"):
            del client[int(line.split()[1]) - 1]

    assert client == list(view_of(talk).uids()) == [1, 3, 16, 17, 18, 19]


@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_a_set_is_written_alike_in_pieces_of_any_size(step: int) -> None:
    numbers = [1, 2, 3, 7, 9, 10, 4294967295]
    writer = SetWriter()

    pieces = [writer.add(numbers[start : start + step]) for start in range(0, len(numbers), step)]

    assert b"".join(pieces) + writer.end() == b"1:3,7,9:10,4294967295"


def test_a_slice_of_a_fetch_holds_a_bounded_amount_of_structures() -> None:
    plan = fetch.plan_of(("UID", "BODY"))
    small = cast("MessageValues", SimpleNamespace(structure=b"x" * 200))
    large = cast("MessageValues", SimpleNamespace(structure=b"x" * 160_000))
    rows = [small] * 100 + [large] * 3 + [small] * 10

    found = list(fetch.slices(plan, rows))

    assert [row for some, _ in found for row in some] == rows
    assert all(units <= fetch.RENDERED_UNITS or len(some) == 1 for some, units in found)
    assert [len(some) for some, _ in found if large in some] == [1, 1, 1]
