from __future__ import annotations

from app.mail.protocol_log import LINE_CHARS, LINES, MAX_ACCOUNTS, Direction, ProtocolLogs
from app.mail.types import AccountId

ANN = AccountId("acc_ann")


class Clock:
    now = 1_000_000

    def __call__(self) -> int:
        return self.now


def test_nothing_is_recorded_but_for_the_time_that_was_asked_for() -> None:
    clock = Clock()
    traces = ProtocolLogs(clock)
    recorder = traces.recorder(ANN, "imap")
    assert not recorder.is_on

    traces.start(ANN, 60)
    assert recorder.is_on
    recorder.record(Direction.SENT, "a1 NOOP")
    clock.now += 60_000

    assert not recorder.is_on
    until, lines = traces.of(ANN)
    assert until is None
    assert [(one.protocol, one.direction, one.text) for one in lines] == [("imap", Direction.SENT, "a1 NOOP")]


def test_what_is_stopped_is_forgotten() -> None:
    traces = ProtocolLogs(Clock())
    traces.start(ANN, 60)
    traces.recorder(ANN, "imap").record(Direction.SENT, "x")
    traces.stop(ANN)

    assert traces.of(ANN) == (None, ())
    assert not traces.recorder(ANN, "imap").is_on


def test_a_trace_is_bounded_in_lines_and_their_length_and_in_accounts() -> None:
    traces = ProtocolLogs(Clock())
    traces.start(ANN, 60)
    recorder = traces.recorder(ANN, "imap")
    for number in range(LINES + 10):
        recorder.record(Direction.RECEIVED, f"{number} " + "x" * 10_000)

    _, lines = traces.of(ANN)
    assert len(lines) == LINES
    assert lines[0].text.startswith("10 ")
    assert all(len(one.text) <= LINE_CHARS for one in lines)

    for number in range(MAX_ACCOUNTS):
        traces.start(AccountId(f"acc_{number}"), 60)
    assert not recorder.is_on


def test_a_secret_that_a_server_repeats_is_not_shown() -> None:
    traces = ProtocolLogs(Clock())
    traces.start(ANN, 60)
    recorder = traces.recorder(ANN, "imap")
    recorder.masker.add("canary")
    recorder.record(Direction.RECEIVED, "a1 NO wrong password canary\r\n\x1b[2J")

    [line] = traces.of(ANN)[1]
    assert "canary" not in line.text
    assert line.text.isprintable()
