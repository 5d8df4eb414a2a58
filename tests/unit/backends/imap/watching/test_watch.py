from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from app.backends.imap import session as session_module
from app.backends.imap.connection import exchange as exchange_module
from app.backends.imap.watching import inbox as inbox_module
from app.backends.imap.watching import sweeping
from app.errors import MailServerError, TimedOut, Unreachable
from app.mail.backend import SyncMode

from tests.unit.backends.imap.scripted import Answer, ScriptedServer
from tests.unit.backends.imap.watching.watched import ALL, Clock, listed, names_until, soon, started, status, until


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

    assert await names_until(signals) <= {"INBOX"}


async def test_a_server_without_idle_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "POLL_SECONDS", 0)
    _, server, signals = await started("IMAP4rev1", {"STATUS": "$ OK done\r\n"})
    await names_until(signals, "INBOX")
    server.script["NOOP"] = "* 4 EXISTS\r\n$ OK done\r\n"

    server.told.clear()

    await names_until(signals, "INBOX")
    assert "IDLE" not in server.told


async def test_an_idle_that_is_refused_is_replaced_by_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _, signals = await started("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", {"IDLE": "$ NO no\r\n"})
    await soon(signals)
    monkeypatch.setattr(inbox_module, "POLL_SECONDS", 0)
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: watch.mode is SyncMode.POLL)
    coming.cancel()


async def test_an_idle_that_the_server_ends_is_begun_again_without_done() -> None:
    _, server, signals = await started("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS")
    await soon(signals)
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: bool(server.idle_tag))
    server.say(f"{server.idle_tag} OK enough\r\n")
    await until(lambda: server.told.count("IDLE") == 2)
    server.say("* 4 EXISTS\r\n")

    assert (await coming).origin_names == {"INBOX"}
    assert "DONE" not in server.told


async def test_a_done_that_crosses_the_end_of_the_idle_costs_nothing() -> None:
    _, server, signals = await started("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS")
    await soon(signals)
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: "IDLE" in server.told)
    server.say("DONE BAD no command of that name\r\n* 4 EXISTS\r\n")

    assert (await coming).origin_names == {"INBOX"}
    assert server.protocol.lost is None


async def test_a_server_that_ends_every_idle_at_once_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "POLL_SECONDS", 0)
    watch, server, signals = await started("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS")
    server.idle_answer = "+ idling\r\n$ OK enough\r\n"
    await soon(signals)
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: watch.mode is SyncMode.POLL)
    coming.cancel()

    assert server.told.count("IDLE") < 10


SWEPT = ["IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS", "IMAP4rev1 IDLE", "IMAP4rev1"]


@pytest.mark.slow
@pytest.mark.parametrize("capabilities", SWEPT)
async def test_a_change_in_any_of_a_hundred_mailboxes_is_found_within_five_seconds(
    capabilities: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "POLL_SECONDS", 0)
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

    await names_until(signals, "M98")


@pytest.mark.parametrize("capabilities", SWEPT)
async def test_a_new_mailbox_is_found_within_five_seconds(capabilities: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "POLL_SECONDS", 0)
    names = ["INBOX", *(f"M{number}" for number in range(98))]
    clock = Clock()
    _, server, signals = await started(capabilities, served(names), clock)
    await soon(signals)

    clock.now += 5
    server.script.update(served([*names, "New"]))

    await names_until(signals)


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
    await soon(signals)  # SELECT told of INBOX
    coming = asyncio.ensure_future(anext(signals))
    await until(lambda: server.told[-1].startswith("LIST"))

    server.protocol.drop(Unreachable("silent"))

    with pytest.raises(MailServerError):
        await coming


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
    longest_silence = inbox_module.SILENCE_SECONDS * 1.5
    assert longest_silence + session_module.IDLE_END_SECONDS <= 120
    assert inbox_module.POLL_SECONDS + exchange_module.COMMAND_TIMEOUT_SECONDS <= 120


def test_no_connection_is_silent_for_ten_minutes_and_no_idle_lasts_for_half_an_hour() -> None:
    assert max(inbox_module.SILENCE_SECONDS * 1.5, sweeping.SWEEP_SECONDS[1], inbox_module.POLL_SECONDS) <= 540
    assert inbox_module.IDLE_SECONDS + inbox_module.SILENCE_SECONDS < inbox_module.IDLE_DEADLINE_SECONDS < 1800


def test_an_account_that_nobody_follows_is_swept_within_five_minutes() -> None:
    assert sweeping.UNFOLLOWED_SWEEP_SECONDS + exchange_module.COMMAND_TIMEOUT_SECONDS <= 300
