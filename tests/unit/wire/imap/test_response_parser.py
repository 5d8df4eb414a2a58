from __future__ import annotations

import pytest
from app.errors import ServerProtocolError
from app.wire.imap.codes import AppendedUid, CopiedUids, ResponseCode
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.framing import Response
from app.wire.imap.long_numbers import cut
from app.wire.imap.response_parser import parse_response
from app.wire.imap.responses import (
    Capabilities,
    Continuation,
    Enabled,
    ESearchResult,
    Exists,
    Expunged,
    ListedMailbox,
    MailboxFlags,
    MailboxStatus,
    Namespaces,
    Quota,
    Recent,
    SearchResult,
    ServerId,
    ServerResponse,
    Status,
    StatusKind,
    Unknown,
    Vanished,
)
from app.wire.imap.sets import SequenceSet
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import at_most_cpu_seconds
from tests.unit.wire.imap.streams import responses


def read(line: bytes, *, is_utf8: bool = False) -> ServerResponse:
    (response,) = responses(line + b"\r\n")
    return parse_response(response, is_utf8=is_utf8)


def code(text: str) -> ResponseCode:
    status = read(f"* OK [{text}] done".encode())
    assert isinstance(status, Status)
    assert status.code is not None
    return status.code


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"* OK ready", Status(None, StatusKind.OK, None, "ready")),
        (b"* PREAUTH", Status(None, StatusKind.PREAUTH, None, "")),
        (b"* BYE [UNAVAILABLE] later", Status(None, StatusKind.BYE, ResponseCode("UNAVAILABLE"), "later")),
        (b"a1 no [authenticationfailed] x", Status("a1", StatusKind.NO, ResponseCode("AUTHENTICATIONFAILED"), "x")),
        (b"a1 BAD", Status("a1", StatusKind.BAD, None, "")),
        (b"a1 OK [READ-WRITE]", Status("a1", StatusKind.OK, ResponseCode("READ-WRITE"), "")),
        (b"a1 OK [not a code", Status("a1", StatusKind.OK, None, "[not a code")),
        (b"+", Continuation("")),
        (b"+ ", Continuation("")),
        (b"+ dGVzdA==", Continuation("dGVzdA==")),
        (b"* CAPABILITY IMAP4rev1  idle", Capabilities(frozenset({"IMAP4REV1", "IDLE"}))),
        (b"* ENABLED", Enabled(frozenset())),
        (b"* ENABLED QRESYNC", Enabled(frozenset({"QRESYNC"}))),
        (b"* 23 EXISTS", Exists(23)),
        (b"* 0 RECENT", Recent(0)),
        (b"* 4 expunge", Expunged(4)),
        (b"* 4 FETCH (UID 9)", FetchedMessage(4, uid=9)),
        (b"* SEARCH", SearchResult(())),
        (b"* SEARCH 4 2 9", SearchResult((4, 2, 9))),
        (b"* SEARCH 4 2 (MODSEQ 17)", SearchResult((4, 2), 17)),
        (b"* SEARCH (MODSEQ 17)", SearchResult((), 17)),
        (b"* ESEARCH", ESearchResult(None, False)),
        (b'* ESEARCH (TAG "a1") UID COUNT 0', ESearchResult("a1", True, count=0)),
        (
            b'* ESEARCH (TAG "a1") UID MIN 2 MAX 9 COUNT 3 ALL 2,7:9 MODSEQ 4',
            ESearchResult("a1", True, 2, 9, 3, SequenceSet.parse("2,7:9"), 4),
        ),
        (b"* VANISHED 3", Vanished(SequenceSet.of([3]), is_earlier=False)),
        (b"* VANISHED (EARLIER) 1:4294967295", Vanished(SequenceSet.parse("1:4294967295"), is_earlier=True)),
        (b"* FLAGS (\\Seen $Junk)", MailboxFlags(("\\Seen", "$Junk"))),
        (
            b'* LIST (\\HasNoChildren \\Sent) "/" Gesendet',
            ListedMailbox("Gesendet", "/", frozenset({"\\hasnochildren", "\\sent"})),
        ),
        (b'* LIST () NIL "inbox"', ListedMailbox("INBOX", None, frozenset())),
        (b'* LIST () "." NIL', ListedMailbox("NIL", ".", frozenset())),
        (b'* LSUB () "\\\\" {5}\r\na"(b\\', ListedMailbox('a"(b\\', "\\", frozenset(), is_lsub=True)),
        (
            b'* LIST () "/" "&AOk-" (CHILDINFO ("SUBSCRIBED") OLDNAME ("e"))',
            ListedMailbox("é", "/", frozenset(), False, frozenset({"SUBSCRIBED"}), "e"),
        ),
        (b'* LIST () "/" [Gmail]/x', ListedMailbox("[Gmail]/x", "/", frozenset())),
        (
            b'* STATUS "a (b" (MESSAGES 3 HIGHESTMODSEQ 18446744073709551615 MAILBOXID (M1) NEW NIL)',
            MailboxStatus("a (b", {"MESSAGES": 3, "HIGHESTMODSEQ": 2**63 - 1}, {"MAILBOXID": "M1"}),
        ),
        (b"* STATUS a ()", MailboxStatus("a", {}, {})),
        (
            b'* NAMESPACE (("" "/")("#mh/" NIL "X" ("y"))) NIL (("shared." "."))',
            Namespaces((("", "/"), ("#mh/", None)), (), (("shared.", "."),)),
        ),
        (b'* ID ("Name" "Dovecot" "os" NIL)', ServerId({"name": "Dovecot", "os": ""})),
        (b"* ID NIL", ServerId({})),
        (b'* QUOTA "a\xff" (STORAGE 99999999999999999999 512)', Quota("a\ufffd", {"STORAGE": (2**63 - 1, 512)})),
        (b'* QUOTA "" (STORAGE 10 512 MESSAGE 1 9)', Quota("", {"STORAGE": (10, 512), "MESSAGE": (1, 9)})),
        (b"* XNEW (what ever", Unknown("XNEW")),
        (b"* 4 XNEW", Unknown("XNEW")),
    ],
)
def test_each_response_has_its_type(line: bytes, expected: ServerResponse) -> None:
    assert read(line) == expected


def test_names_are_utf8_once_that_is_enabled() -> None:
    listed = read('* LIST () "/" "Entwürfe & mehr"'.encode(), is_utf8=True)

    assert isinstance(listed, ListedMailbox)
    assert listed.name == "Entwürfe & mehr"


def test_codes_give_their_numbers_and_words() -> None:
    assert code("UIDVALIDITY 3857529045").number == 3857529045
    assert code("HIGHESTMODSEQ 715194045007").number == 715194045007
    assert code("PERMANENTFLAGS (\\Deleted \\*)").words == ("\\Deleted", "\\*")
    assert code("CAPABILITY IMAP4rev1 IDLE").words == ("IMAP4rev1", "IDLE")
    assert code("MODIFIED 7,9").numbers == SequenceSet.of([7, 9])
    assert code("APPENDUID 38505 3955").appended == AppendedUid(38505, (3955,))
    assert code("APPENDUID 38505 3955:3957").appended == AppendedUid(38505, (3955, 3956, 3957))
    assert code("COPYUID 38505 304,319:320 3958,3957:3956").copied == CopiedUids(
        38505, ((304, 3958), (319, 3957), (320, 3956))
    )
    assert code("NOTIFICATIONOVERFLOW").name == "NOTIFICATIONOVERFLOW"


@pytest.mark.parametrize(
    "text",
    [
        "COPYUID 1 1:3 4",
        "COPYUID 1",
        "COPYUID 1 1:4294967295 1:4294967295",
        "APPENDUID x",
        "APPENDUID 1 1,,2",
        "UIDVALIDITY",
        "UIDVALIDITY -1",
        "MODIFIED x",
    ],
)
def test_a_code_that_breaks_its_promise_is_a_protocol_error(text: str) -> None:
    found = code(text)
    reader = {"COPYUID": "copied", "APPENDUID": "appended", "UIDVALIDITY": "number", "MODIFIED": "numbers"}[found.name]

    with pytest.raises(ServerProtocolError):
        getattr(found, reader)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"*",
        b"* ",
        b"a1",
        b"a1 FINE",
        b"* LIST ()",
        b"* LIST () () x",
        b"* STATUS x",
        b"* ESEARCH ALL x",
        b"* ESEARCH COUNT x",
        b"* VANISHED",
        b"* NAMESPACE NIL",
        b"* QUOTA",
        b"* QUOTA x (STORAGE y 1)",
        b'* ID ("name',
    ],
)
def test_a_response_that_breaks_the_grammar_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        read(line)


def test_what_is_no_number_in_a_search_costs_the_other_numbers_nothing() -> None:
    assert read(b"* SEARCH 1 x 3 " + b"9" * 5_000) == SearchResult((1, 3))


@pytest.mark.parametrize(
    ("line", "words", "text"),
    [
        (b"* OK [PERMANENTFLAGS (\\Seen odd]word \\*)] fine", ("\\Seen", "odd]word", "\\*"), "fine"),
        (b"* OK [PERMANENTFLAGS (a] b])]", ("a]", "b]"), ""),
        (b"* OK [PERMANENTFLAGS ()] none (kept)] here", (), "none (kept)] here"),
    ],
)
def test_a_bracket_in_a_keyword_does_not_end_the_code(line: bytes, words: tuple[str, ...], text: str) -> None:
    status = read(line)

    assert isinstance(status, Status)
    assert status.code is not None
    assert (status.code.words, status.text) == (words, text)


def test_a_status_reads_as_the_server_said_it() -> None:
    assert str(read(b"a1 NO [OVERQUOTA] Quota exceeded")) == "NO [OVERQUOTA] Quota exceeded"
    assert str(read(b"a1 OK [UIDNEXT 4] Next {5}")) == "OK [UIDNEXT 4] Next {5}"


@given(st.binary(max_size=80), st.sampled_from([b"", b"* ", b"* LIST ", b"* ESEARCH ", b"* STATUS ", b"* 1 FETCH "]))
def test_any_line_is_a_response_or_a_protocol_error(line: bytes, start: bytes) -> None:
    try:
        parse_response(Response((start + line,)))
    except ServerProtocolError:
        return


def test_a_search_that_finds_a_million_is_linear() -> None:
    line = b"* SEARCH " + b"1234567 " * 500_000

    with at_most_cpu_seconds(2):
        found = [parse_response(piece) for piece in cut(Response((line.rstrip(),)))]

    assert sum(len(one.numbers) for one in found if isinstance(one, SearchResult)) == 500_000
