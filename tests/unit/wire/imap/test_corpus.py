from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from app.wire.imap import render
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.framing import Response
from app.wire.imap.response_parser import parse_response
from app.wire.imap.responses import ListedMailbox, MailboxStatus, Quota, ServerResponse, Status, StatusKind, Unknown

from tests.unit.wire.imap.streams import byte_by_byte, events, in_packets, whole

FILES = sorted((Path(__file__).parents[3] / "corpus" / "imap").glob("*.imap"))


def read(name: str) -> list[ServerResponse]:
    (file,) = [file for file in FILES if file.stem == name]
    return [parse_response(event) for event in events([file.read_bytes()]) if isinstance(event, Response)]


def fetched(name: str) -> list[FetchedMessage]:
    return [response for response in read(name) if isinstance(response, FetchedMessage)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
@pytest.mark.parametrize("cut", [whole, byte_by_byte, lambda stream: in_packets(stream, 100)])
def test_a_session_is_read_whole_however_it_is_split(file: Path, cut: Callable[[bytes], list[bytes]]) -> None:
    stream = file.read_bytes()
    found = [event for event in events(cut(stream)) if isinstance(event, Response)]

    assert found == [event for event in events([stream]) if isinstance(event, Response)]
    assert not any(isinstance(parse_response(response), Unknown) for response in found)
    last = [response for response in map(parse_response, found) if isinstance(response, Status)]
    assert StatusKind.BYE in (last[-1].kind, last[-2].kind), "the session is read to its end"


def test_dovecot_names_each_mailbox_as_we_made_it() -> None:
    session = read("dovecot-2.3")
    listed = {response.name for response in session if isinstance(response, ListedMailbox)}
    counted = {response.name for response in session if isinstance(response, MailboxStatus)}

    assert {"Entwürfe & mehr", 'a "b" \\ {5}', "INBOX"} <= listed
    assert {"Entwürfe & mehr", 'a "b" \\ {5}'} <= counted


def test_dovecot_took_each_of_our_commands() -> None:
    answers = [response for response in read("dovecot-2.3") if isinstance(response, Status) and response.tag]

    assert len(answers) == 31
    assert {answer.kind for answer in answers} == {StatusKind.OK}


def test_we_write_envelope_and_structure_as_dovecot_does() -> None:
    (file,) = [file for file in FILES if file.stem == "dovecot-2.3"]
    stream = file.read_bytes()
    messages = [message for message in fetched("dovecot-2.3") if message.envelope and message.structure]

    assert len(messages) == 3
    for message in messages:
        assert message.envelope is not None
        assert message.structure is not None
        assert b"ENVELOPE " + render.envelope(message.envelope) + b" BODYSTRUCTURE" in stream
        assert b"BODYSTRUCTURE " + render.structure(message.structure) + b" BODY" in stream


def test_gmail_labels_and_ids_are_read() -> None:
    (message,) = fetched("gmail")

    assert message.gmail_labels == ("\\Important", "\\Sent", "Work", "two words")
    assert message.gmail_message_id == 1781234567890123457
    assert message.structure is not None
    assert [part.media_type for part in message.structure.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]


def test_what_exchange_says_against_the_grammar_is_read() -> None:
    (message,) = fetched("microsoft-365")

    assert message.envelope is not None
    assert message.envelope.subject == "Grüße"
    assert message.envelope.sender == ()
    assert message.structure is not None
    text, attached = message.structure.children
    assert (text.size_bytes, text.lines) == (0, 0)
    assert (attached.media_type, attached.disposition, attached.children) == ("message/rfc822", "attachment", ())


def test_an_account_without_a_quota_on_courier_has_a_root_without_limits() -> None:
    assert Quota("ROOT", {}) in read("courier-quota")


def test_inbox_is_inbox_however_a_server_writes_it() -> None:
    assert [one.name for one in read("yahoo") if isinstance(one, ListedMailbox)] == ["INBOX"]
