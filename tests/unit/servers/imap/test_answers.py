"""Errors as status answers."""

from __future__ import annotations

import pytest
from app.errors import (
    AccountNotFound,
    AlreadyExists,
    GatewayError,
    InvalidRequest,
    MailboxNotFound,
    MalformedRequest,
    NotAuthenticated,
    RateLimited,
    TooLarge,
)
from app.mailstore.blobs import BlobMissing
from app.servers.imap.answers import CommandRefused, Completion, refusal


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (MalformedRequest("No"), b"a BAD No"),
        (NotAuthenticated(), b"a NO [AUTHENTICATIONFAILED]"),
        (MailboxNotFound(), b"a NO [NONEXISTENT]"),
        (AccountNotFound(), b"a NO [NONEXISTENT]"),
        (AlreadyExists(), b"a NO [ALREADYEXISTS]"),
        (InvalidRequest("No"), b"a NO [CANNOT] No"),
        (TooLarge(), b"a NO [TOOBIG]"),
        (RateLimited(), b"a NO [LIMIT]"),
        (BlobMissing(), b"a NO [CORRUPTION]"),
        (CommandRefused("TRYCREATE", "No"), b"a NO [TRYCREATE] No"),
        (GatewayError(), b"a NO [SERVERBUG]"),
    ],
)
def test_each_error_has_its_response_code(error: GatewayError, start: bytes) -> None:
    assert refusal(error).line("a").startswith(start)


def test_no_text_ends_its_line_or_looks_like_a_code() -> None:
    line = Completion("[ALERT] one\r\n* BYE two \u00fc \x00" + "x" * 1_000).line("a")

    assert line.startswith(b"a OK ALERT] one??* BYE two ? ?")
    assert line.count(b"\r\n") == 1
    assert len(line) < 500
