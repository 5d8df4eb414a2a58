"""Which refusals mean that a server has had enough of an account for now, and which are about what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.backends.imap.connection.answers import CommandCompletion
from app.errors import LoginRefused, MailServerError, RateLimited, ServerRefused, Throttled, Unreachable
from app.wire.imap import commands

from tests.unit.backends.imap.scripted import ScriptedServer, scripted_session

CORPUS = Path(__file__).parents[3] / "corpus" / "imap"
DOVECOT = "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)"


def completion(line: str) -> CommandCompletion:
    status, _, text = line.partition(" ")
    return CommandCompletion(status, text.encode(), ())


def refusals(file: str, *tags: str) -> list[str]:
    """Lines of a session without their tags."""
    lines = (line.partition(" ") for line in (CORPUS / file).read_text("utf-8").splitlines())
    return [text for tag, _, text in lines if tag in tags]


ENOUGH = [
    *refusals("gmail.imap", "a6", "a7", "a8"),
    *refusals("microsoft-365.imap", "a5", "a6"),
    *refusals("yahoo.imap", "4"),
    DOVECOT,
]


@pytest.mark.parametrize("line", ENOUGH)
def test_a_server_that_has_had_enough_is_to_be_left_alone_and_not_asked_for_another_password(line: str) -> None:
    with pytest.raises(Throttled) as caught:
        completion(line).check()

    error = caught.value
    assert isinstance(error, RateLimited)
    assert isinstance(error, MailServerError)
    assert not isinstance(error, LoginRefused)
    assert error.is_retryable
    assert error.retry_after_seconds >= 30
    assert error.origin is not None
    assert error.origin.response == line


@pytest.mark.parametrize(
    "line",
    [
        "NO [OVERQUOTA] Quota exceeded (mailbox for user is full)",
        "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)",
        "NO [LIMIT] Too many keywords",
        "NO [ALERT] Your account is old",
        *refusals("yahoo.imap", "5"),
    ],
)
def test_other_refusals_are_about_what_was_asked(line: str) -> None:
    with pytest.raises(ServerRefused):
        completion(line).check()


def test_gmail_says_that_it_slows_down_and_still_does_what_is_asked() -> None:
    done = completion("OK Success [THROTTLED]")

    assert done.check() is done


async def test_a_connection_that_microsoft_365_cut_off_is_not_used_again() -> None:
    session, _ = scripted_session({"NOOP": "$ BAD User is authenticated but not connected.\r\n"})

    with pytest.raises(Throttled):
        await session.do(commands.noop())

    assert isinstance(session.protocol.lost, Throttled)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("* BYE [ALERT] Too many connections from your address\r\n", Throttled),
        ("* BYE Server shutting down\r\n", Unreachable),
    ],
)
async def test_a_goodbye_says_whether_it_was_too_much(said: str, error: type[MailServerError]) -> None:
    greeted = ScriptedServer()
    greeted.say(said)
    session, server = scripted_session()
    server.say(said)

    assert type(greeted.protocol.lost) is error
    assert type(session.protocol.lost) is error
