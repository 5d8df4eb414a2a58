from __future__ import annotations

import base64

import pytest
from app.backends import tracing
from app.backends.sasl import Credential
from app.mail.protocol_log import ProtocolLogs, Recorder
from app.mail.types import AccountId
from app.wire.imap import commands
from app.wire.imap.commands import BodySection
from app.wire.imap.encode import Command
from app.wire.imap.framing import ClientFramer, Response
from app.wire.imap.search import TextField, TextMatch
from app.wire.imap.sets import SequenceSet
from app.wire.pop3_client import Pop3Status
from hypothesis import given
from hypothesis import strategies as st

ANN = AccountId("acc_ann")
CANARY = "canary-word"


def recording() -> tuple[ProtocolLogs, Recorder]:
    traces = ProtocolLogs()
    traces.start(ANN, 60)
    return traces, traces.recorder(ANN, "imap")


def shown(traces: ProtocolLogs) -> list[str]:
    return [one.text for one in traces.of(ANN)[1]]


def sent(command: Command) -> str:
    traces, recorder = recording()
    tracing.imap_sent(recorder, command, b"A1", command.segments(b"A1")[0])
    return shown(traces)[0]


def received(data: bytes) -> list[str]:
    traces, recorder = recording()
    for event in ClientFramer().feed(data):
        if isinstance(event, Response):
            tracing.imap_received(recorder, event)
    return shown(traces)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (commands.select("INBOX"), 'A1 SELECT "INBOX"'),
        (commands.fetch(SequenceSet.of([1, 2]), ["UID", BodySection("1")]), "A1 UID FETCH 1:2 (UID BODY.PEEK[1])"),
        (commands.login("ann", CANARY), "A1 LOGIN …"),
        (commands.authenticate("PLAIN", base64.b64encode(CANARY.encode())), "A1 AUTHENTICATE …"),
        (commands.search(TextMatch(TextField.BODY, CANARY)), "A1 UID SEARCH …"),
    ],
)
def test_commands_are_shown_without_logins_and_searched_words(command: Command, text: str) -> None:
    assert sent(command) == text


def test_answers_are_shown_without_texts_of_messages() -> None:
    secret = CANARY.encode()
    envelope = b'ENVELOPE ("date" "%b" (("%b" NIL "a" "b")) NIL NIL NIL NIL NIL NIL "<1@x>")' % (secret, secret)
    lines = received(
        b'* 2 FETCH (UID 2 %b BODY[1] {11}\r\n%b PREVIEW ("x\\"%b"))\r\n' % (envelope, secret, secret)
        + b'* 3 FETCH (BODY[1] "%b" FLAGS (\\Seen))\r\n* SEARCH 1 2\r\n* LIST () "/" "Work"\r\n' % secret
        + b'A1 NO cannot find "%b" here\r\n+ %b\r\n' % (secret, base64.b64encode(secret))
    )

    assert not any(CANARY in line for line in lines)
    assert lines[1] == '* 3 FETCH (BODY[1] "…" FLAGS (\\Seen))'
    assert lines[2:] == ["* SEARCH 1 2", '* LIST () "/" "Work"', 'A1 NO cannot find "…" here', "+"]


def test_no_line_that_is_cut_short_shows_a_string() -> None:
    long = b'* 1 FETCH (ENVELOPE ("' + b"x" * 1_990 + CANARY.encode() * 100 + b'"))\r\n'

    assert received(long) == ['* 1 FETCH (ENVELOPE ("…"']


def test_what_follows_a_login_command_is_login_data() -> None:
    traces, recorder = recording()
    tracing.imap_line_sent(recorder, base64.b64encode(CANARY.encode()))
    tracing.imap_line_sent(recorder, b"DONE")
    tracing.smtp_sent(recorder, (b"AUTH", b"PLAIN", CANARY.encode()))
    tracing.smtp_sent(recorder, (base64.b64encode(CANARY.encode()),))
    tracing.smtp_sent(recorder, (b"MAIL", b"FROM:<a@x.test>"))
    tracing.smtp_received(recorder, 334, CANARY)
    tracing.smtp_received(recorder, 235, "in")
    tracing.pop3_sent(recorder, f"USER ann\r\nPASS {CANARY}\r\n".encode())
    tracing.pop3_sent(recorder, f"AUTH PLAIN {CANARY}\r\n".encode())
    tracing.pop3_sent(recorder, f"{CANARY}\r\nRETR 1\r\n".encode())
    tracing.pop3_received(recorder, Pop3Status(False, "no", "IN-USE"))
    tracing.pop3_received(recorder, Pop3Status(False, CANARY, is_challenge=True))

    assert shown(traces) == [
        "(login data)", "DONE", "AUTH PLAIN …", "(login data)", "MAIL FROM:<a@x.test>", "334", "235 in", "USER ann",
        "PASS …", "AUTH …", "(login data)", "RETR 1", "-ERR [IN-USE] no", "+",
    ]  # fmt: skip


def test_a_server_that_repeats_the_password_shows_it_to_no_one() -> None:
    traces, recorder = recording()
    tracing.hide(recorder, Credential("ann", CANARY))
    plain = base64.b64encode(f"\0ann\0{CANARY}".encode()).decode()
    for said in (CANARY, base64.b64encode(CANARY.encode()).decode(), plain):
        tracing.smtp_received(recorder, 535, f"you said {said}")

    assert shown(traces) == ["535 you said …"] * 3


def test_nothing_is_done_for_an_account_that_is_not_recorded() -> None:
    recorder = ProtocolLogs().recorder(ANN, "imap")

    tracing.imap_line_sent(recorder, b"x")
    tracing.imap_line_sent(None, b"x")
    tracing.pop3_received(recorder, Pop3Status(True))


@given(before=st.text('"\\ (ab', max_size=30), after=st.text('"\\ )ab', max_size=30))
def test_no_string_of_a_message_is_shown_however_it_is_quoted(before: str, after: str) -> None:
    quoted = '"' + (before + CANARY + after).replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert not any(CANARY in line for line in received(f"* 1 FETCH (ENVELOPE (NIL {quoted}))\r\n".encode()))
