from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest
from app.backends.imap import session as session_module
from app.backends.imap.connection import exchange as exchange_module
from app.backends.imap.watching import ImapWatch, sweeping
from app.backends.imap.watching import watch as watch_module
from app.errors import MailServerError, TimedOut, Unreachable
from app.mail.backend import Signal, SyncMode
from app.mail.types import AccountId, Mailbox, MailboxId, Role

from tests.unit.backends.imap.scripted import Answer, ScriptedServer, scripted_session

ALL = "IMAP4rev1 IDLE NOTIFY LIST-EXTENDED LIST-STATUS"


def mailbox(name: str, uid_next: int = 4, total: int = 3, unread: int = 0) -> Mailbox:
    return Mailbox(
        id=MailboxId(f"mbx_{name}"),
        account_id=AccountId("acc_1"),
        path=name,
        role=Role.INBOX if name == "INBOX" else None,
        uid_validity=7,
        uid_next=uid_next,
        highest_modseq=0,
        total=total,
        unread=unread,
        is_subscribed=True,
        is_selectable=True,
        parent_id=None,
        origin_name=name,
        delimiter="/",
        is_complete=True,
    )


KNOWN = [mailbox("INBOX"), mailbox("Work")]


def status(name: str, uid_next: int = 4, total: int = 3) -> str:
    return f"* STATUS {name} (MESSAGES {total} UIDNEXT {uid_next} UIDVALIDITY 7 UNSEEN 0)\r\n"


def listed(*names: str, uid_next: int = 4, total: int = 3) -> str:
    lines = [f'* LIST (\\Subscribed) "/" {name}\r\n' + status(name, uid_next, total) for name in names]
    return "".join(lines) + "$ OK done\r\n"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def started(
    capabilities: str, script: Mapping[str, Answer] | None = None, clock: Clock | None = None
) -> tuple[ImapWatch, ScriptedServer, AsyncIterator[Signal]]:
    answers = {"LIST": listed("INBOX", "Work"), "IDLE": "+ idling\r\n", **(script or {})}
    session, server = scripted_session(answers, capabilities)
    watch = await ImapWatch.start(session, KNOWN, clock or Clock())
    return watch, server, watch.signals()


async def soon(signals: AsyncIterator[Signal]) -> Signal:
    async with asyncio.timeout(5):
        return await anext(signals)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError


EVENTS = "(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)"


async def started_with_shared(script: Mapping[str, Answer] | None = None) -> tuple[ImapWatch, ScriptedServer]:
    """A watch where one mailbox is shared, and there is a namespace of other people's with none."""
    namespaces = '* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))\r\n$ OK done\r\n'
    session, server = scripted_session({"NAMESPACE": namespaces, **(script or {})}, f"{ALL} NAMESPACE")
    await session.agree()
    return await ImapWatch.start(session, [*KNOWN, mailbox("Shared/News")], Clock()), server


async def test_notify_watches_shared_mailboxes_too_which_are_not_personal() -> None:
    watch, server = await started_with_shared()

    assert watch.mode is SyncMode.NOTIFY
    assert server.told[1:] == [f'NOTIFY SET STATUS (personal {EVENTS}) (subtree ("Shared") {EVENTS})']


async def test_where_shared_mailboxes_cannot_be_watched_the_others_are() -> None:
    def refuse_shared(command: str) -> str:
        return "$ NO [BADEVENT (MessageNew)] no\r\n" if "subtree" in command else "$ OK done\r\n"

    watch, server = await started_with_shared({"NOTIFY": refuse_shared})
    assert (watch.mode, server.told[-1]) == (SyncMode.NOTIFY, f"NOTIFY SET STATUS (personal {EVENTS})")


async def test_notify_watches_all_mailboxes_on_one_connection_with_none_selected() -> None:
    watch, server, signals = await started(ALL)
    assert watch.mode is SyncMode.NOTIFY
    assert server.told == [
        "NOTIFY SET STATUS (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))"
    ]

    server.say(status("Work", uid_next=5, total=4))

    signal = await soon(signals)
    assert signal.origin_names == {"Work"}
    assert [(one.origin_name, one.uid_next, one.total) for one in signal.status] == [("Work", 5, 4)]


async def test_soon_after_a_change_notify_is_asked_for_anew_and_tells_what_was_not_heard() -> None:
    """Dovecot: a NOTIFY from before its list's log was begun anew hears of nothing for up to 30 s."""
    clock = Clock()
    _, server, signals = await started(ALL, clock=clock)
    server.say(status("Work", 5))
    assert (await soon(signals)).origin_names == {"Work"}
    server.script["NOTIFY"] = status("INBOX", 9) + "$ OK done\r\n"
    clock.now += watch_module.RENEWAL_SECONDS

    assert (await soon(signals)).origin_names == {"INBOX"}
    assert [line.split()[:3] for line in server.told if "NOTIFY" in line] == [["NOTIFY", "SET", "STATUS"]] * 2


async def test_where_notify_is_refused_when_asked_for_anew_the_rest_is_heard_by_other_means() -> None:
    clock = Clock()
    watch, server, signals = await started(ALL, clock=clock)
    server.say(status("Work", 5))
    await soon(signals)
    server.script["NOTIFY"] = "$ NO not any more\r\n"
    clock.now += watch_module.RENEWAL_SECONDS

    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: watch.mode is SyncMode.IDLE)
    coming.cancel()


async def test_signals_are_merged_while_nobody_takes_them() -> None:
    _, server, signals = await started(ALL)
    for uid_next in range(5, 1000):
        server.say(status("Work", uid_next=uid_next) + status("INBOX", uid_next=uid_next))

    signal = await soon(signals)

    assert signal.origin_names == {"INBOX", "Work"}
    assert {one.uid_next for one in signal.status} == {999}


async def test_a_status_that_says_nothing_new_is_no_signal() -> None:
    _, server, signals = await started(ALL)
    server.say(status("Work"))
    server.say(status("INBOX", uid_next=9))

    assert (await soon(signals)).origin_names == {"INBOX"}


@pytest.mark.parametrize("said", ['* LIST () "/" New\r\n', "* STATUS New (MESSAGES 1)\r\n", "* STATUS (broken\r\n"])
async def test_what_is_not_known_may_be_anywhere(said: str) -> None:
    _, server, signals = await started(ALL)

    server.say(said)

    assert (await soon(signals)).origin_names == frozenset()


async def test_an_overflow_of_notify_falls_to_idle() -> None:
    watch, server, signals = await started(ALL)

    server.say("* OK [NOTIFICATIONOVERFLOW] too much\r\n")

    assert (await soon(signals)).origin_names == frozenset()
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: "IDLE" in server.told)
    assert watch.mode is SyncMode.IDLE
    server.say("* 4 EXISTS\r\n")
    assert (await coming).origin_names == {"INBOX"}


@pytest.mark.parametrize(
    ("capabilities", "mode"),
    [
        ("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", SyncMode.IDLE),
        ("IMAP4rev1 IDLE", SyncMode.SWEEP),
        ("IMAP4rev1", SyncMode.POLL),
    ],
)
async def test_the_best_strategy_is_chosen_by_what_is_offered(capabilities: str, mode: SyncMode) -> None:
    watch, _, _ = await started(capabilities)

    assert watch.mode is mode


async def test_idle_hears_of_inbox_and_a_sweep_of_the_others() -> None:
    clock = Clock()
    _, server, signals = await started("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", clock=clock)
    await soon(signals)  # SELECT told of INBOX
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: "IDLE" in server.told)
    server.say("* 1 FETCH (FLAGS (\\Seen))\r\n")
    assert (await coming).origin_names == {"INBOX"}

    clock.now += 15
    server.script["LIST"] = listed("INBOX", "Work", uid_next=8)
    signal = await soon(signals)

    assert signal.origin_names == {"INBOX", "Work"}
    assert server.told.count("DONE") == 1


async def test_a_mailbox_that_came_or_went_is_found_by_the_sweep() -> None:
    clock = Clock()
    _, server, signals = await started(ALL, clock=clock)
    server.script["LIST"] = listed("INBOX", "Work", "New")
    clock.now += 300

    assert (await soon(signals)).origin_names == frozenset()


async def test_a_server_without_idle_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "POLL_SECONDS", 0)
    _, server, signals = await started("IMAP4rev1", {"STATUS": "$ OK done\r\n"})
    await soon(signals)
    server.script["NOOP"] = "* 4 EXISTS\r\n$ OK done\r\n"

    assert (await soon(signals)).origin_names == {"INBOX"}


async def test_an_idle_that_is_refused_is_replaced_by_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _, signals = await started("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", {"IDLE": "$ NO no\r\n"})
    await soon(signals)
    monkeypatch.setattr(watch_module, "POLL_SECONDS", 0)
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: watch.mode is SyncMode.POLL)
    coming.cancel()


SWEPT = ["IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", "IMAP4rev1 IDLE", "IMAP4rev1"]


@pytest.mark.parametrize("capabilities", SWEPT)
async def test_a_change_in_any_of_a_hundred_mailboxes_is_found_within_five_seconds(
    capabilities: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "POLL_SECONDS", 0)
    names = ["INBOX", *(f"M{number}" for number in range(99))]
    clock = Clock()
    _, server, signals = await started(capabilities, served(names), clock)
    await soon(signals)
    for number in range(20):
        clock.now += 60
        change(server, names, "INBOX", 100 + number)
        await soon(signals)

    clock.now += 5
    change(server, names, "M98", 9)

    assert "M98" in (await soon(signals)).origin_names


@pytest.mark.parametrize("capabilities", SWEPT)
async def test_a_new_mailbox_is_found_within_five_seconds(capabilities: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "POLL_SECONDS", 0)
    names = ["INBOX", *(f"M{number}" for number in range(98))]
    clock = Clock()
    _, server, signals = await started(capabilities, served(names), clock)
    await soon(signals)

    clock.now += 5
    server.script.update(served([*names, "New"]))

    assert (await soon(signals)).origin_names == frozenset()


def served(names: Sequence[str], changed: str = "", uid_next: int = 4) -> dict[str, Answer]:
    """What a server answers that has these mailboxes, in one of which mail came."""
    numbers = {name: status(name, uid_next if name == changed else 4) for name in names}
    listing = "".join(f'* LIST () "/" {name}\r\n{line}' for name, line in numbers.items())
    subscribed = "".join(f'* LSUB () "/" {name}\r\n' for name in names)
    answers: dict[str, Answer] = {f'STATUS "{name}" ': f"{line}$ OK done\r\n" for name, line in numbers.items()}
    return answers | {"LIST": f"{listing}$ OK done\r\n", "LSUB": f"{subscribed}$ OK done\r\n"}


def change(server: ScriptedServer, names: Sequence[str], changed: str, uid_next: int) -> None:
    server.script.update(served(names, changed, uid_next))


async def test_of_thousands_of_mailboxes_the_busy_ones_are_asked_each_time_and_the_others_in_turn() -> None:
    names = ["INBOX", *(f"M{number}" for number in range(1, 1000))]
    clock = Clock()
    _, server, signals = await started("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", served(names), clock)
    await soon(signals)
    asked: list[list[str]] = []
    for number in range(14):
        server.told.clear()
        clock.now += 4.5
        change(server, names, "INBOX", 100 + number)
        await soon(signals)
        asked.append([line.split('"')[1] for line in server.told if line.startswith("STATUS")])

    assert all(len(one) <= sweeping.SWEPT_MAILBOXES for one in asked)
    assert all("INBOX" in one for one in asked)
    assert set().union(*asked) == set(names)


@pytest.mark.parametrize("answer", ["$ NO [BADEVENT] no\r\n", "$ BAD what?\r\n"])
async def test_a_refused_notify_is_replaced_by_what_else_the_server_confirms(answer: str) -> None:
    watch, _, _ = await started("IMAP4rev1 IDLE NOTIFY", {"NOTIFY": answer})

    assert watch.mode is SyncMode.SWEEP


@pytest.mark.parametrize("capabilities", [ALL, "IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", "IMAP4rev1"])
async def test_a_lost_connection_ends_the_signals_by_an_error(capabilities: str) -> None:
    _, server, signals = await started(capabilities)
    server.say("* BYE restarting\r\n")

    with pytest.raises(Unreachable):
        [signal async for signal in signals]


async def test_a_sweep_that_is_not_answered_ends_the_watch() -> None:
    clock = Clock()
    _, server, signals = await started(ALL, {"LIST": ""}, clock)
    clock.now += 300
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: server.told[-1].startswith("LIST"))

    server.protocol.drop(Unreachable("silent"))

    with pytest.raises(MailServerError):
        await coming


async def test_a_notify_that_is_silent_for_a_minute_or_so_is_asked_whether_it_is_alive_and_goes_on() -> None:
    clock = Clock()
    watch, server, signals = await started(ALL, clock=clock)
    clock.now += 59
    server.say(status("Work"))  # says nothing new, but that it is alive
    clock.now += 59
    coming = asyncio.ensure_future(soon(signals))
    for _ in range(10):
        await asyncio.sleep(0)
    assert "NOOP" not in server.told
    server.say(status("INBOX", uid_next=5))
    await coming

    clock.now += 90
    coming = asyncio.ensure_future(soon(signals))
    await until(lambda: server.told[-1] == "NOOP")
    server.say(status("Work", uid_next=5))

    assert (await coming).origin_names == {"Work"}
    assert (server.told.count("NOOP"), watch.mode) == (1, SyncMode.NOTIFY)


async def test_a_notify_that_does_not_say_that_it_is_alive_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "ALIVE_SECONDS", 0.01)
    clock = Clock()
    _, _, signals = await started(ALL, {"NOOP": ""}, clock)
    clock.now += 90

    with pytest.raises(TimedOut):
        await soon(signals)


@pytest.mark.parametrize("capabilities", [one for one in SWEPT if "IDLE" in one])
async def test_an_idle_that_is_silent_for_five_seconds_is_ended_and_must_say_so(
    capabilities: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "IDLE_END_SECONDS", 0.01)
    clock = Clock()
    _, server, signals = await started(capabilities, {"DONE": ""}, clock)
    await soon(signals)
    coming = asyncio.ensure_future(soon(signals))
    await until(lambda: server.told[-1] == "IDLE")
    server.say("* 4 EXISTS\r\n")
    await coming
    clock.now += 5

    with pytest.raises(TimedOut):
        await soon(signals)


def test_a_connection_that_died_without_a_word_is_found_within_two_minutes() -> None:
    longest_silence = watch_module.SILENCE_SECONDS * 1.5
    assert longest_silence + watch_module.ALIVE_SECONDS <= 120
    assert sweeping.UNFOLLOWED_SWEEP_SECONDS + session_module.IDLE_END_SECONDS <= 120
    assert watch_module.POLL_SECONDS + exchange_module.COMMAND_TIMEOUT_SECONDS <= 120


def test_no_strategy_is_silent_for_ten_minutes() -> None:
    assert max(sweeping.BACKGROUND_SWEEP_SECONDS, sweeping.SWEEP_SECONDS[1], watch_module.POLL_SECONDS) <= 540
