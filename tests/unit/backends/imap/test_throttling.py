"""Which refusals mean that a server has had enough of an account for now, and which are about what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.backends.imap.connection.answers import Completion
from app.errors import LoginRefused, MailServerError, RateLimited, ServerRefused, Throttled

GMAIL = Path(__file__).parents[3] / "corpus" / "imap" / "gmail.imap"
DOVECOT = "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)"


def completion(line: str) -> Completion:
    status, _, text = line.partition(" ")
    return Completion(status, text.encode(), ())


def refusals() -> list[str]:
    """Gmail's own, without their tags."""
    lines = GMAIL.read_text("ascii").splitlines()
    return [line.partition(" ")[2] for line in lines if line[:3] in ("a6 ", "a7 ", "a8 ")]


@pytest.mark.parametrize("line", [*refusals(), DOVECOT])
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
    assert error.origin.response.startswith("NO [")


@pytest.mark.parametrize(
    "line",
    [
        "NO [OVERQUOTA] Quota exceeded (mailbox for user is full)",
        "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)",
        "NO [LIMIT] Too many keywords",
        "NO [ALERT] Your account is old",
    ],
)
def test_other_refusals_are_about_what_was_asked(line: str) -> None:
    with pytest.raises(ServerRefused):
        completion(line).check()


def test_gmail_says_that_it_slows_down_and_still_does_what_is_asked() -> None:
    done = completion("OK Success [THROTTLED]")

    assert done.check() is done
