"""What we tell of a message in ENVELOPE and BODYSTRUCTURE is what Dovecot tells of it."""

from __future__ import annotations

import imaplib
from pathlib import Path

import pytest
from app.mail.types import without_spans
from app.mime.structure import parse_structure
from app.wire.imap.fetch import FetchedMessage, parse_fetch
from app.wire.imap.framing import ClientFramer, Response

from tests.servers.dovecot import Dovecot

CORPUS = Path(__file__).parents[1] / "corpus" / "mime"
BROKEN = {
    "no-boundary.eml",  # ours keeps the words that Dovecot gives up
    "latin1-headers.eml",  # Dovecot ends an unquoted file name at its first space
    "bare-lf.eml",  # Dovecot counts the CR that it adds
}
SANE = sorted(path for path in CORPUS.glob("*.eml") if path.name not in BROKEN)


def fetched(dovecot: Dovecot, message: bytes) -> FetchedMessage:
    user = dovecot.add_user()
    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap:
        imap.login(user.name, user.password)
        assert imap.append("INBOX", "", "", message)[0] == "OK"
        imap.select("INBOX")
        imap.send(b"F1 FETCH 1 (ENVELOPE BODYSTRUCTURE)\r\n")
        answer = b""
        while not (line := imap.readline()).startswith(b"F1 "):
            answer += line
    responses = [event for event in ClientFramer().feed(answer) if isinstance(event, Response)]
    return next(parse_fetch(response) for response in responses if b" FETCH (" in response.text)


@pytest.mark.parametrize("path", SANE, ids=lambda path: path.stem)
def test_dovecot_tells_the_same_structure(dovecot: Dovecot, path: Path) -> None:
    message = path.read_bytes()

    theirs, ours = fetched(dovecot, message), parse_structure(message)

    assert theirs.structure is not None
    assert without_spans(ours.structure) == theirs.structure
    assert ours.envelope == theirs.envelope
